"""One subgraph from its operators to its instructions, and what limits it."""

import re
from dataclasses import asdict

import pytest

from iree_migraphx.cli.devices import CHIPS, COMPUTE_UNITS, chip_of
from iree_migraphx.cli.inspect import _resource_lines
from iree_migraphx.cli.limits import occupancy, roof
from iree_migraphx.cli.listing import read_listing
from iree_migraphx.cli.work import Work, work_of
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.report import KernelResources
from programs import Builder, subgraphs_of


def kernel(vgprs=32, sgprs=32, lds=0, size=256, workgroups=1000, agprs=0):
    return KernelResources("k", workgroups, size, lds, vgprs, agprs, sgprs, 0, 64)


@pytest.mark.parametrize(
    ("gfx", "asked", "waves", "by"),
    [
        ("gfx942", {}, 8, "nothing"),
        ("gfx942", {"vgprs": 128}, 4, "vgprs"),
        ("gfx942", {"vgprs": 129}, 3, "vgprs"),
        ("gfx942", {"vgprs": 512}, 1, "vgprs"),
        ("gfx942", {"lds": 8960}, 7, "lds"),
        ("gfx942", {"lds": 65536, "size": 64}, 1, "lds"),
        ("gfx950", {"lds": 65536}, 2, "lds"),
        ("gfx908", {"sgprs": 102}, 7, "sgprs"),
        # Vector and accumulation registers are two files there, and one file of twice the size on gfx90a.
        ("gfx908", {"vgprs": 64, "agprs": 128}, 2, "vgprs"),
        ("gfx1100", {"vgprs": 97, "size": 32}, 12, "vgprs"),
        ("gfx1103", {"vgprs": 97, "size": 32}, 9, "vgprs"),
        ("gfx1100", {"lds": 65536, "size": 1024}, 16, "nothing"),
    ],
)
def test_occupancy(gfx, asked, waves, by):
    found = occupancy(kernel(**asked), COMPUTE_UNITS[gfx])
    assert (found.waves, found.limited_by) == (waves, by)


def test_a_small_grid_does_not_fill_the_chip():
    assert occupancy(kernel(workgroups=76), COMPUTE_UNITS["gfx942"], 304).filled == 0.25
    assert occupancy(KernelResources("host"), COMPUTE_UNITS["gfx942"]) is None


def test_the_roof():
    # A half dot of 4096^3 is above the ridge of an MI300X, one of 64x4096x4096 below.
    big, small = (Work(2 * m * 4096**2, 2 * m * 4096**2, 2 * (2 * m * 4096 + 4096**2), "half_type") for m in (4096, 64))
    assert roof(big, "mi300x", "gfx942").bound == "arithmetic"
    assert roof(small, "mi300x", "gfx942").bound == "memory"
    assert roof(big, "gfx942", "gfx942").chip == "mi300x"
    assert roof(big, "mi300x", "gfx942").seconds == pytest.approx(2 * 4096**3 / 1307.4e12)
    assert roof(big, "gfx1250", "gfx1250") is None
    assert roof(Work(1, 1, 1, "double_type"), "mi300x", "gfx942") is None


def test_the_tables_are_of_devices_that_iree_knows():
    assert {chip.gfx for chip in CHIPS.values()} <= set(COMPUTE_UNITS)
    for name, chip in CHIPS.items():
        assert parse_target(name).gfx == chip.gfx
        assert parse_target(name).lds <= COMPUTE_UNITS[chip.gfx].lds
    assert chip_of("gfx1250", "gfx1250") is None


def test_a_listing_is_code_and_nothing_else():
    text = """
	.text
	.type	f,@function
f:                                      ; @f
; %bb.0:
	s_load_dwordx2 s[0:1], s[0:1], 0x0
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], 0
	v_mfma_f32_16x16x16_f16 a[0:3], v[0:1], v[2:3], a[0:3]
.LBB0_1:
	global_store_dword v0, v1, s[0:1]
	s_endpgm
	.section	.rodata
	.amdhsa_kernel f
		.amdhsa_next_free_vgpr 4
	.end_amdhsa_kernel
	.text
.Lfunc_end0:
"""
    listing = read_listing(text, host=False)
    assert listing.matrix == {"v_mfma_f32_16x16x16_f16": 2}
    assert listing.counts == {"matrix": 2, "scalar memory": 1, "global memory": 1, "scalar": 1}
    assert [line.split()[0] for line in listing.text.splitlines()] == [
        "f:", "s_load_dwordx2", "v_mfma_f32_16x16x16_f16", "v_mfma_f32_16x16x16_f16", ".LBB0_1:", "global_store_dword",
        "s_endpgm",
    ]  # fmt: skip


def test_the_list(json_of, command, model):
    (listed,) = json_of("inspect", model)
    assert [each["name"] for each in listed["subgraphs"]] == [f"convolution_add_relu_{n}" for n in (1, 2, 3)]
    # 4 x 4 x 3 x 3 multiplications and additions for each of 12 x 12 places, and bias and relu.
    assert {each["flops"] for each in listed["subgraphs"]} == {2 * 144 * 144 + 2 * 576}
    assert {each["bytes"] for each in listed["subgraphs"]} == {4 * (576 + 144 + 4 + 576)}
    out, _ = command("inspect", model, "--arch", "gfx942")
    assert len(out.splitlines()) == 4


def test_a_subgraph_for_a_gpu(json_of, command, model):
    words = ["inspect", model, "--fp16", "--arch", "mi300x", "--subgraph"]
    (shown,) = json_of(*words, 1)
    assert shown["summary"]["name"] == "convolution_add_relu_2"
    assert "--iree-rocm-target=mi300x" in shown["flags"]
    assert "func.func @iree_convolution_add_relu_" in shown["mlir"]
    assert re.search(r"^\s+(global|buffer)_store", shown["instructions"], re.M)
    resources = shown["resources"]
    assert resources["kernel"]["vgprs"] > 0
    assert 1 <= resources["occupancy"]["waves"] <= 8
    assert resources["roof"]["chip"] == "mi300x"
    assert sum(resources["instructions"].values()) == len(re.findall(r"^\s+\S", shown["instructions"], re.M))
    out, _ = command(*words, shown["summary"]["key"][:8], "--show", "resources")
    assert "occupancy " in out
    assert "mlir:" not in out


def test_a_kernel_of_several_launches_says_so():
    told = asdict(KernelResources("k", 4, 64, 0, 8, 0, 8, 0, 64, launches=3))
    assert next(_resource_lines({"kernel": told}, "gfx942")).endswith("64 work-items, the largest of 3 launches")
    told["launches"] = 1
    assert next(_resource_lines({"kernel": told}, "gfx942")).endswith("4 workgroups of 64 work-items")


def test_a_subgraph_for_the_host(json_of, model):
    (shown,) = json_of("inspect", model, "--subgraph", "convolution_add_relu_3")
    assert "ret" in shown["instructions"]
    assert "occupancy" not in shown["resources"]


def test_wrong_names(command, model):
    assert "did you mean convolution_add_relu_" in command("inspect", model, "--subgraph", "convolution_2", status=2)[1]
    assert "invalid choice: 'isa'" in command("inspect", model, "--show", "isa", status=2)[1]


def test_the_work_of_dots():
    build = Builder()
    dot = build.op("dot", build.param("a", (8, 4)), build.param("b", (4, 16)))
    (found,) = subgraphs_of(build.build(build.op("relu", dot)))
    assert work_of(found) == Work(2 * 8 * 16 * 4 + 128, 2 * 8 * 16 * 4, 4 * (32 + 64 + 128), "float_type")
