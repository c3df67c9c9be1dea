import re
import subprocess
import threading

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.compiler import compile_command, find_compiler, staged_commands
from iree_migraphx.kernels.flags import compile_flags, write_flags
from iree_migraphx.kernels.flatten import flatten_workgroups
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.kernels.worker import compile_order
from iree_migraphx.options import Options

from .sources import dot, order

F32 = dot(type_="f32")


@pytest.fixture(scope="module")
def configurations(tmp_path_factory):
    """What IREE chose for an f32 dot on gfx1100: TileAndFuse with [32, 8, 1]."""
    folder = tmp_path_factory.mktemp("configurations")
    (folder / "in.mlir").write_text(F32.mlir)
    target = parse_target("gfx1100")
    flags = write_flags(compile_flags(target, Options()), folder)
    command = compile_command(find_compiler(Options()), target, flags, folder / "in.mlir", folder / "out")
    first, _ = staged_commands(command, folder / "middle.mlir", folder / "flat.mlir", folder / "out")
    subprocess.run(first, check=True)
    return (folder / "middle.mlir").read_text()


def sizes(text):
    return re.findall(r"workgroup_size = \[([^\]]*)\]", text)


def test_the_workgroup_keeps_its_work_items_and_loses_its_dimensions(configurations):
    assert sizes(configurations) == ["32, 8, 1"]
    assert sizes(flatten_workgroups(configurations)) == ["256, 1, 1"]


def test_nothing_else_changes(configurations):
    again = flatten_workgroups(flatten_workgroups(configurations))
    assert again == flatten_workgroups(configurations)
    assert again.count("lowering_config") == configurations.count("lowering_config") > 0


def test_a_pipeline_that_uses_the_dimensions_is_refused(configurations):
    distributed = configurations.replace("pipeline<TileAndFuse>", "pipeline<Distribute>")
    assert distributed != configurations
    with pytest.raises(Refusal, match="32 x 8 x 1 work-items, in the pipeline") as refused:
        flatten_workgroups(distributed)
    assert refused.value.reason is Reason.BLOCK_NOT_1D


def test_rubbish_is_refused():
    with pytest.raises(Refusal) as refused:
        flatten_workgroups("module {")
    assert refused.value.reason is Reason.BAD_COMPILER_OUTPUT


@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"])
def test_an_f32_dot_on_rdna_becomes_a_kernel(options, arch):
    target = parse_target(arch)
    compiled = compile_order(order(F32, options, target), find_compiler(options), threading.Event())
    assert isinstance(compiled.result, GpuKernel), compiled.result
    assert compiled.result.workgroup_size == 256
    assert compiled.result.operands == (0, 1, 2, 3)
    assert compiled.lasting
