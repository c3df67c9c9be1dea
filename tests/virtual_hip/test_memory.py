"""Device memory, and what is noticed of it."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from virtual_hip import hip
from virtual_hip.device import GFX, Buffer, VirtualDevice, VirtualDeviceError, view


@pytest.mark.parametrize(
    "dtype",
    [
        np.float16,
        np.float32,
        np.float64,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
    ],
)
def test_fresh_memory_is_finite_and_random(virtual_device, dtype):
    buffers = [virtual_device.allocate(80000) for _ in range(2)]
    first, second = (virtual_device.download(b.address, 80000 // np.dtype(dtype).itemsize, dtype) for b in buffers)
    assert np.isfinite(first.astype(np.float64)).all()
    assert len(np.unique(first)) > 60
    assert (first != second).mean() > 0.9
    virtual_device.free(*buffers)


def test_memory_repeats_with_its_seed():
    def first_bytes(seed):
        with VirtualDevice(seed=seed) as device:
            buffer = device.allocate(4096)
            data = device.download(buffer.address, 4096, np.uint8)
            device.free(buffer)
        return data

    assert (first_bytes(1) != first_bytes(2)).mean() > 0.8


def test_double_free(virtual_device):
    buffer = virtual_device.allocate(64)
    virtual_device.free(buffer, buffer)
    assert virtual_device.faults.pop().startswith("double free")


def test_free_of_something_else(virtual_device):
    virtual_device.free(Buffer(0x1000, 1))
    assert virtual_device.faults.pop().startswith("free of no allocation")


def test_addresses_are_never_used_again(virtual_device):
    seen = set()
    for _ in range(50):
        buffer = virtual_device.allocate(4096)
        virtual_device.free(buffer)
        seen.add(buffer.address)
    assert len(seen) == 50


def test_written_behind_the_end(virtual_device):
    buffer = virtual_device.allocate(100)
    view(buffer.address, 101)[100] = 7
    with pytest.raises(VirtualDeviceError, match="behind the end of the 100 bytes"):
        virtual_device.check()
    virtual_device.faults.clear()
    virtual_device.free(buffer)
    assert "behind the end" in virtual_device.faults.pop()


def test_copies_stay_inside(virtual_device):
    buffer = virtual_device.allocate(100)
    virtual_device.download(buffer.address, 101, np.uint8)
    assert "101 bytes" in virtual_device.faults.pop()
    virtual_device.download(buffer.address + 60, 41, np.uint8)
    assert "41 bytes" in virtual_device.faults.pop()
    virtual_device.free(buffer)
    virtual_device.download(buffer.address, 1, np.uint8)
    assert "use after free" in virtual_device.faults.pop()


def test_leaks(virtual_device):
    with virtual_device.expect_no_leaks():
        kept = virtual_device.allocate(48)
        virtual_device.free(virtual_device.allocate(16))
    assert virtual_device.faults.pop() == f"leak: 48 bytes at {kept.address:#x}"
    stream = ctypes.c_void_p()
    with virtual_device.expect_no_leaks():
        assert hip.library().hipStreamCreate(ctypes.byref(stream)) == 0
    assert virtual_device.faults.pop() == "leak: 1 streams, events or modules"
    assert hip.library().hipStreamDestroy(stream) == 0
    virtual_device.free(kept)


def test_memory_that_is_registered_twice(virtual_device):
    ours = np.zeros(64, np.uint8)
    pointer = ctypes.c_void_p(ours.ctypes.data)
    library = hip.library()
    with virtual_device.expect_no_leaks():
        for _ in range(2):
            assert library.hipHostRegister(pointer, ctypes.c_size_t(64), 0) == 0
        for _ in range(2):
            assert library.hipHostUnregister(pointer) == 0
    assert library.hipHostUnregister(pointer) != 0
    assert "not registered" in virtual_device.faults.pop()


def test_several_devices(virtual_device):
    virtual_device.use(",".join(GFX))
    count, device = ctypes.c_int(), ctypes.c_int()
    hip.library().hipGetDeviceCount(ctypes.byref(count))
    assert count.value == 5
    assert hip.library().hipSetDevice(4) == 0
    hip.library().hipGetDevice(ctypes.byref(device))
    assert device.value == 4
    assert hip.library().hipSetDevice(5) != 0
    assert hip.library().hipSetDevice(0) == 0


def test_unknown_device(virtual_device):
    with pytest.raises(ValueError, match="there is no virtual gfx942,gfx1; there are gfx90a"):
        virtual_device.use("gfx942,gfx1")
    assert virtual_device.gfx == "gfx942"
