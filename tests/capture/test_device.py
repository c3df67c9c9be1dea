"""Which GPU there is, where HIP does not say: this interpreter sees none."""

import pytest

from iree_migraphx.binding import device
from iree_migraphx.errors import Reason, Refusal, TargetError
from iree_migraphx.gpu import device_target
from iree_migraphx.kernels.targets import name_of_product, parse_target
from iree_migraphx.options import Options


def nodes(folder, *versions):
    """The driver's folders; a processor without a version is a CPU."""
    for number, version in enumerate(versions):
        (folder / str(number)).mkdir()
        text = f"cpu_cores_count 8\nsimd_count 304\ngfx_target_version {version}\nvendor_id 4098\n"
        (folder / str(number) / "properties").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("version", "gfx"),
    [
        (90008, "gfx908"),
        (90010, "gfx90a"),
        (90402, "gfx942"),
        (90500, "gfx950"),
        (100300, "gfx1030"),
        (110000, "gfx1100"),
        (110501, "gfx1151"),
        (120001, "gfx1201"),
    ],
)
def test_the_drivers_numbers(tmp_path, monkeypatch, version, gfx):
    monkeypatch.setattr(device, "KFD_NODES", nodes(tmp_path, 0, version))
    assert device.current_device() == device.Device(gfx)


def test_several_of_one_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "KFD_NODES", nodes(tmp_path, 0, *[90402] * 12))
    assert device.current_device().arch == "gfx942"


@pytest.mark.parametrize(("versions", "said"), [((0,), "no GPU"), ((90402, 110000), "gfx942, gfx1100"), ((), "no GPU")])
def test_what_can_not_be_told(tmp_path, monkeypatch, versions, said):
    monkeypatch.setattr(device, "KFD_NODES", nodes(tmp_path, *versions))
    with pytest.raises(TargetError, match=f"{said}.*IREE_MIGRAPHX_ARCH"):
        device.current_device()
    with pytest.raises(Refusal) as refused:
        device_target(Options())
    assert refused.value.reason is Reason.UNKNOWN_DEVICE
    assert str(device_target(Options(arch="mi300x"))) == "mi300x"


def test_a_device_that_iree_does_not_know(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "KFD_NODES", nodes(tmp_path, 100300))
    with pytest.raises(Refusal, match=r"unknown-device.*gfx1030"):
        device_target(Options())


def test_no_device_to_choose():
    with pytest.raises(TargetError, match="number 0"):
        device.choose_device(0)


@pytest.mark.parametrize(
    ("arch", "product", "wanted"),
    [
        ("gfx942:sramecc+:xnack-", "AMD Instinct MI300X", "mi300x:sramecc+:xnack-"),
        ("gfx942", "AMD Instinct MI300X VF", "mi300x"),
        ("gfx942", "AMD Instinct MI300A", "mi300a"),
        ("gfx90a:sramecc+:xnack-", "AMD Instinct MI250X / MI250", "mi250x:sramecc+:xnack-"),
        ("gfx90a", "AMD Instinct MI210", "mi210"),
        ("gfx1100", "AMD Radeon RX 7900 XTX", "rx7900xtx"),
        ("gfx1100", "AMD Radeon RX 7900 XT", "rx7900xt"),
        ("gfx1100", "AMD Radeon PRO W7900", "w7900"),
        ("gfx1201", "AMD Radeon RX 9070 XT", "rx9070xt"),
        ("gfx1151", "AMD Radeon Graphics", "gfx1151"),
        ("gfx950", "AMD Instinct MI300X", "gfx950"),
        ("gfx942", "", "gfx942"),
    ],
)
def test_product_names(arch, product, wanted):
    assert name_of_product(arch, product) == wanted
    assert parse_target(wanted).gfx == arch.partition(":")[0]
