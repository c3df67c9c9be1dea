import gc
import multiprocessing
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from iree_migraphx.errors import KernelError
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.splice import runtime
from iree_migraphx.splice.runtime import ALIGNMENT, LoadedKernel, aligned_bytes, copy_in_blocks, device

from .conftest import LENS

SHAPE = Shape.standard_of("float_type", LENS)


def at(offset, value=None):
    """An f32 array of LENS whose address is `offset` bytes past an aligned one, with guard bytes around it."""
    memory = aligned_bytes(SHAPE.nbytes + 2 * ALIGNMENT)
    memory[:] = 0xA5
    array = memory[offset : offset + SHAPE.nbytes].view(np.float32).reshape(LENS)
    if value is not None:
        array[...] = value
    return array, memory


@pytest.fixture
def loaded(sub_kernel):
    return LoadedKernel(device(2), sub_kernel, [SHAPE, SHAPE], SHAPE)


@pytest.fixture
def values():
    random = np.random.default_rng(3)
    return random.standard_normal((2, *LENS)).astype(np.float32)


@pytest.mark.parametrize("offsets", [(0, 0, 0), (4, 0, 0), (0, 32, 0), (0, 0, 4), (4, 8, 12)])
def test_operands_and_results_at_any_address(loaded, values, offsets):
    a, _ = at(offsets[0], values[0])
    b, _ = at(offsets[1], values[1])
    out, memory = at(offsets[2])
    loaded.run([a.ctypes.data, b.ctypes.data], {}, out.ctypes.data)
    np.testing.assert_array_equal(out, values[0] - values[1])
    assert (memory[: offsets[2]] == 0xA5).all()
    assert (memory[offsets[2] + SHAPE.nbytes :] == 0xA5).all()
    np.testing.assert_array_equal(a, values[0])
    np.testing.assert_array_equal(b, values[1])


def test_one_buffer_may_be_both_operands(loaded, values):
    for offset in (0, 4):
        a, _ = at(offset, values[0])
        out, _ = at(offset, 1.0)
        loaded.run([a.ctypes.data, a.ctypes.data], {}, out.ctypes.data)
        assert not out.any()


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_takes_its_own_place_and_outlives_its_source(loaded, values, constant):
    source = values[constant].copy()
    constants = {constant: loaded.constant(constant, source)}
    source[...] = np.nan
    del source
    gc.collect()
    other, _ = at(4, values[1 - constant])
    out, _ = at(0)
    for _ in range(3):
        loaded.run([other.ctypes.data], constants, out.ctypes.data)
        np.testing.assert_array_equal(out, values[0] - values[1])


def test_constants_only(loaded, values):
    constants = {index: loaded.constant(index, values[index]) for index in (0, 1)}
    out, _ = at(0)
    loaded.run([], constants, out.ctypes.data)
    np.testing.assert_array_equal(out, values[0] - values[1])


def test_a_constant_given_as_a_transposed_view(loaded, values):
    constants = {0: loaded.constant(0, np.asfortranarray(values[0]))}
    b, _ = at(0, values[1])
    out, _ = at(0)
    loaded.run([b.ctypes.data], constants, out.ctypes.data)
    np.testing.assert_array_equal(out, values[0] - values[1])


def test_the_same_kernel_is_loaded_once_and_freed_with_its_last_user(sub_kernel):
    first = device(2).load(sub_kernel, [SHAPE, SHAPE], SHAPE)
    assert device(2).load(HostKernel(sub_kernel.symbol, bytes(sub_kernel.vmfb)), [SHAPE, SHAPE], SHAPE) is first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_thousands_of_runs_from_many_threads(loaded, values):
    """Each thread has its own values and result; some are aligned and some pass through the shared buffers."""

    def work(number):
        a, _ = at(4 * (number % 3), values[0] + number)
        b, _ = at(4 * (number % 2), values[1])
        out, _ = at(4 * (number % 4))
        wanted = a - b
        for _ in range(500):
            out[...] = np.nan
            loaded.run([a.ctypes.data, b.ctypes.data], {}, out.ctypes.data)
            if not np.array_equal(out, wanted):
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_runs_do_not_leak(loaded, values):
    a, _ = at(4, values[0])
    out, _ = at(0)
    constants = {1: loaded.constant(1, values[1])}

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def runs(count):
        for _ in range(count):
            loaded.run([a.ctypes.data], constants, out.ctypes.data)

    runs(500)
    before = resident()
    runs(10000)
    assert resident() - before < 2_000_000  # 200 bytes a run


@pytest.mark.parametrize("vmfb", [b"", b"not a module", "truncated"])
def test_a_broken_module_is_a_kernel_error(sub_kernel, vmfb):
    data = sub_kernel.vmfb[: len(sub_kernel.vmfb) // 2] if vmfb == "truncated" else vmfb
    with pytest.raises(KernelError, match=r"can't load the kernel iree_sub"):
        LoadedKernel(device(2), HostKernel("iree_sub", data), [SHAPE, SHAPE], SHAPE)


def test_a_module_without_the_function_is_a_kernel_error(sub_kernel):
    with pytest.raises(KernelError, match="iree_other"):
        LoadedKernel(device(2), HostKernel("iree_other", sub_kernel.vmfb), [SHAPE, SHAPE], SHAPE)


def test_a_call_that_iree_refuses_is_a_kernel_error_and_the_next_one_works(sub_kernel, values):
    wrong = Shape.standard_of("float_type", (5, 7))
    odd = LoadedKernel(device(2), sub_kernel, [wrong, SHAPE], SHAPE)
    right = LoadedKernel(device(2), sub_kernel, [SHAPE, SHAPE], SHAPE)
    a, _ = at(0, values[0])
    b, _ = at(0, values[1])
    out, _ = at(0)
    with pytest.raises(KernelError, match="iree_sub failed"):
        odd.run([a.ctypes.data, b.ctypes.data], {}, out.ctypes.data)
    right.run([a.ctypes.data, b.ctypes.data], {}, out.ctypes.data)
    np.testing.assert_array_equal(out, values[0] - values[1])


@pytest.mark.parametrize("limit", [0, 3 * SHAPE.nbytes])
def test_small_kernels_run_on_the_callers_thread_and_others_do_not(sub_kernel, values, monkeypatch, limit):
    monkeypatch.setattr(runtime, "INLINE", limit)
    where = device(2)
    loaded = LoadedKernel(where, sub_kernel, [SHAPE, SHAPE], SHAPE)
    assert loaded._queue is (where.inline if limit else where.threads)
    assert where.queue(limit + 1) is where.threads
    a, b, out = at(0, values[0])[0], at(4, values[1])[0], at(0)[0]
    loaded.run([a.ctypes.data, b.ctypes.data], {}, out.ctypes.data)
    np.testing.assert_array_equal(out, values[0] - values[1])


def test_with_one_thread_there_are_no_others():
    where = runtime.Device.__new__(runtime.Device)
    runtime.Device.__init__(where, 1)
    assert where.threads is where.inline


def test_there_is_one_device():
    with ThreadPoolExecutor(4) as pool:
        assert len({id(found) for found in pool.map(device, (1, 2, 3, 4))}) == 1


def _error_of(function, *arguments):
    try:
        function(*arguments)
    except KernelError as error:
        return str(error)
    return "no error"


def _in_child(loaded, connection):
    out, _ = at(0)
    connection.send(_error_of(loaded.run, [out.ctypes.data] * 2, {}, out.ctypes.data))
    connection.send(_error_of(device, 2))


def test_a_forked_process_gets_an_error_instead_of_waiting_for_ever(loaded):
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(loaded, theirs))
    child.start()
    try:
        for _ in range(2):
            assert ours.poll(20), "the child hangs"
            assert "forked" in ours.recv()
    finally:
        child.kill()
        child.join()


def test_loading_from_several_threads_gives_one_kernel(sub_kernel):
    barrier = threading.Barrier(4)

    def load(_):
        barrier.wait()
        return runtime.device(2).load(sub_kernel, [SHAPE, SHAPE], SHAPE)

    with ThreadPoolExecutor(4) as pool:
        assert len({id(found) for found in pool.map(load, range(4))}) == 1


@pytest.mark.parametrize(
    ("lens", "axes"),
    [
        ((70, 5, 3, 3), (2, 3, 1, 0)),
        ((33, 64), (1, 0)),
        ((5,), (0,)),
        ((), ()),
        ((4, 0), (1, 0)),
        ((2, 3, 4), (0, 1, 2)),
    ],
)
def test_copying_in_blocks_copies_everything(lens, axes):
    source = np.random.default_rng(0).random(lens, np.float32).transpose(axes)
    target = np.full(source.shape, np.nan, np.float32)
    copy_in_blocks(target, source)
    np.testing.assert_array_equal(target, source)
