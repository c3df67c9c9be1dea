import re
import threading

import pytest

from iree_migraphx.errors import OptionError, TargetError
from iree_migraphx.kernels import targets
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.targets import host_cpu, parse_target

from .sources import real_compiler

FEATURES = ["sramecc", "xnack"]


def compile_empty(folder, *flags):
    """Far enough for the module to name its device."""
    (folder / "empty.mlir").write_text("util.func public @f() { util.return }\n")
    files = [str(folder / "empty.mlir"), "-o", str(folder / "out")]
    command = [str(real_compiler()), *files, "--compile-to=preprocessing", *flags]
    ended = run(command, folder, 60, threading.Event())
    return ended, (folder / "out").read_text() if ended.status == 0 else ""


@pytest.mark.parametrize("name", [*targets._PROCESSORS, *targets._PRODUCTS])
def test_the_table_says_what_iree_says(name, tmp_path):
    target = parse_target(name)
    ended, text = compile_empty(tmp_path, *target.flags())
    assert ended.status == 0, ended.errors
    assert re.search(r'arch = "(\w+)"', text).group(1) == target.gfx
    assert int(re.search(r"max_workgroup_memory_bytes = (\d+)", text).group(1)) == target.lds


@pytest.mark.parametrize("gfx", targets._PROCESSORS)
def test_iree_takes_the_features_in_the_table_and_no_others(gfx, tmp_path):
    for feature in FEATURES:
        flags = (f"--iree-rocm-target={gfx}", f"--iree-rocm-target-features=+{feature}")
        ended, _ = compile_empty(tmp_path, "--iree-hal-target-device=hip", *flags)
        if ended.status == 0:
            assert compile_empty(tmp_path, *parse_target(f"{gfx}:{feature}+").flags())[0].status == 0
        else:
            with pytest.raises(TargetError, match=f"'{feature}\\+' in '{gfx}:{feature}\\+' is not a feature of {gfx}"):
                parse_target(f"{gfx}:{feature}+")


@pytest.mark.parametrize("name", ["gfx1102", "gfx1030", "gfx906", "cdna3", "rdna3"])
def test_what_the_rocm_backend_rejects_is_no_target(name, tmp_path):
    assert compile_empty(tmp_path, "--iree-hal-target-device=hip", f"--iree-rocm-target={name}")[0].status != 0
    with pytest.raises(TargetError):
        parse_target(name)


def test_features_go_into_a_flag_of_their_own():
    target = parse_target("gfx942:xnack-:sramecc+")
    assert target.flags() == (
        "--iree-hal-target-device=hip",
        "--iree-rocm-target=gfx942",
        "--iree-rocm-target-features=+sramecc,-xnack",
    )
    assert str(target) == target.target_id == "gfx942:sramecc+:xnack-"


def test_a_product_goes_to_iree_by_its_name():
    target = parse_target("MI300X:xnack-")
    assert "--iree-rocm-target=mi300x" in target.flags()
    assert (str(target), target.target_id) == ("mi300x:xnack-", "gfx942:xnack-")


def test_host():
    target = parse_target("host")
    assert target.is_host
    assert "--iree-llvmcpu-target-cpu=host" in target.flags()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gfx943", "did you mean gfx942"),
        ("mi300", "did you mean mi300"),
        ("rx7900xtz", "did you mean rx7900xt"),
        ("", "known are host, gfx908"),
        ("a100x", "IREE can't compile for 'a100x'"),
        ("host:xnack+", "IREE can't compile for 'host:xnack\\+'"),
        ("gfx942:xnack", "not a feature of gfx942, which has sramecc\\+, sramecc- or xnack\\+, xnack-"),
        ("gfx942:", "'' in 'gfx942:' is not a feature"),
        ("gfx1100:xnack+", "which has no features to choose"),
        ("gfx942:xnack+:xnack-", "names a feature twice"),
    ],
)
def test_unknown_names_are_errors_with_a_hint(name, hint):
    with pytest.raises(TargetError, match=hint) as raised:
        parse_target(name)
    assert isinstance(raised.value, OptionError)


def test_the_cpu_of_the_key_names_its_features():
    with open("/proc/cpuinfo") as file:
        features = next(line for line in file if line.startswith(("flags", "Features")))
    assert features.strip() in host_cpu()
