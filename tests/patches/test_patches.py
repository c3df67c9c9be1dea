"""patches/ goes into MIGraphX's sources and out of them again, and such a MIGraphX gets what it can launch."""

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from iree_migraphx import gpu
from iree_migraphx.binding import device
from iree_migraphx.errors import MigraphxError, Reason, Refusal
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.accept import accept_gpu
from iree_migraphx.kernels.cache import Maker
from iree_migraphx.kernels.entry import Entry, read_entry, write_entry
from iree_migraphx.kernels.lookup import key_entries
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options
from iree_migraphx.splice.gpu_sequence import code_object
from kernels.sources import dot

REPOSITORY = Path(__file__).resolve().parents[2]
PATCH = (REPOSITORY / "patches/migraphx-launch-dims.patch").read_text()
#: A checkout of release rocm-7.1.1, where there is one.
SOURCES = os.environ.get("MIGRAPHX_SOURCES")


def setup(*arguments):
    return subprocess.run(
        ["bash", str(REPOSITORY / "setup.sh"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def sources(tmp_path):
    """Files with just the lines that the patch wants to find, where it wants to find them."""
    for part in re.split(r"^diff --git ", PATCH, flags=re.M)[1:]:
        name = re.search(r"^--- a/(.*)$", part, re.M)[1]
        lines = []
        for start, hunk in re.findall(r"^@@ -(\d+)\S* .*?@@.*?\n(.*?)(?=^@@|\Z)", part, re.M | re.S):
            old = [line[1:] for line in hunk.splitlines() if line[:1] in (" ", "-")]
            lines += [f"// {number}" for number in range(len(lines) + 1, int(start))] + old
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, "// end", ""]))
    return tmp_path


def contents(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(sources):
    before = contents(sources)
    done = setup("apply_patches", sources)
    assert done.returncode == 0, done.stderr
    after = contents(sources)
    assert before.keys() == after.keys()
    header = next(text for path, text in after.items() if path.name == "code_object_op.hpp")
    for field in ("global_y", "global_z", "local_y", "local_z", "dynamic_lds"):
        assert f'f(self.{field}, "{field}")' in header, "not saved with a program"
    assert "already" in setup("apply_patches", sources).stderr
    assert contents(sources) == after
    assert setup("apply_patches", sources, "--undo").returncode == 0
    assert contents(sources) == before
    assert "does not have" in setup("apply_patches", sources, "--undo").stderr


def test_other_sources_are_left_alone(sources):
    path = sources / "src/targets/gpu/kernel.cpp"
    path.write_text(path.read_text().replace("assert(global > 0);", "assert(global != 0);"))
    before = contents(sources)
    done = setup("apply_patches", sources)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert contents(sources) == before


def test_a_folder_with_something_else(tmp_path):
    assert "does not hold MIGraphX's sources" in setup("apply_patches", tmp_path).stderr
    assert "which folder" in setup("apply_patches").stderr


@pytest.mark.skipif(not SOURCES, reason="MIGRAPHX_SOURCES names no checkout of MIGraphX")
def test_the_release(tmp_path):
    done = setup("check_patches", SOURCES)
    assert done.returncode == 0, done.stderr
    assert "what it touches compiles" in done.stderr


F32 = dot(type_="f32")
GFX1100 = parse_target("gfx1100")


def test_what_needs_more_dimensions_is_accepted_where_there_are_some(hal_text, tmp_path):
    """On stock MIGraphX this kernel is refused: its workgroup is 32 x 8 x 1."""
    text = hal_text(F32, "gfx1100")
    with pytest.raises(Refusal) as refused:
        accept_gpu(text, F32, GFX1100)
    assert refused.value.reason is Reason.BLOCK_NOT_1D
    target = replace(GFX1100, any_grid=True)
    kernel = accept_gpu(text, F32, target)
    assert (kernel.workgroup_size, kernel.workgroup_size_yz) == (32, (8, 1))
    fields = code_object(kernel, kernel.code_object, [Shape.standard_of("float_type", (4,))], 0)
    assert (fields["local"], fields["local_y"], fields["global_y"], fields["global_z"]) == (32, 8, 8, 1)
    write_entry(tmp_path, Entry(tmp_path.name, kernel, {}), "", [])
    assert read_entry(tmp_path).result == kernel
    keys = [key_entries(F32, Maker("", ""), each, ()) for each in (GFX1100, target)]
    assert keys[0] != keys[1]


def test_grids_of_three_dimensions(hal_text):
    text = hal_text(F32, "gfx942").replace("workgroups([%c1, %c1, %c1])", "workgroups([%c1, %c2, %c3])")
    target = replace(parse_target("gfx942"), any_grid=True)
    kernel = accept_gpu(text, F32, target)
    assert (kernel.workgroups, kernel.workgroups_yz) == (1, (2, 3))


#: What IREE's backend for CUDA makes of an export, in front of the binary that a real one is compiled to.
EXPORT = """    hal.executable.variant public @with_sources target(<"rocm", "rocm-hsaco-fb">) {{
      "hal.executable.export"() <{{
        sym_name = "{name}", layout = #hal.pipeline.layout<bindings = [#hal.pipeline.binding<storage_buffer>]>,
        workgroup_local_memory = 2048 : index
      }}> ({{}}, {{}}) : () -> ()
    }}
    hal.executable.binary"""


def test_dynamic_local_memory(hal_text, tmp_path):
    plain = hal_text(F32, "gfx942")
    name = re.search(r"function\(@\w+::@\w+::@(\w+)\)", plain)[1]
    text = plain.replace("    hal.executable.binary", EXPORT.format(name=name), 1)
    stock = parse_target("gfx942")
    with pytest.raises(Refusal, match="2048 bytes, and MIGraphX's gives none") as refused:
        accept_gpu(text, F32, stock)
    assert refused.value.reason is Reason.LDS_LIMIT
    own = accept_gpu(plain, F32, stock).resources.lds_bytes
    kernel = accept_gpu(text, F32, replace(stock, any_grid=True))
    assert (kernel.dynamic_lds, kernel.resources.lds_bytes) == (2048, own)
    with pytest.raises(Refusal, match=f"{own + 2048} bytes; a workgroup"):
        accept_gpu(text, F32, replace(stock, any_grid=True, lds=own + 2047))
    fields = code_object(kernel, kernel.code_object, [Shape.standard_of("float_type", (4,))], 0)
    assert (fields["dynamic_lds"], fields["global_y"], fields["local_z"]) == (2048, 1, 1)
    write_entry(tmp_path, Entry(tmp_path.name, kernel, {}), "", [])
    assert read_entry(tmp_path).result == kernel


def test_stock_migraphx_gets_no_field_that_it_does_not_know(hal_text):
    kernel = accept_gpu(hal_text(F32, "gfx942"), F32, parse_target("gfx942"))
    assert not {"global_y", "local_y", "dynamic_lds"} & set(
        code_object(kernel, b"", [Shape.standard_of("float_type", (4,))], 0)
    )


@pytest.mark.parametrize("has", [True, False])
def test_migraphx_is_asked(monkeypatch, has):
    asked = []

    def new(*arguments, **_):
        asked.append(arguments)
        if not has:
            raise MigraphxError("Unknown key: global_y")

    monkeypatch.setattr(device.capi, "new", new)
    monkeypatch.setattr(gpu, "current_device", lambda: device.Device("gfx942", "AMD Instinct MI300X", 0))
    assert gpu.device_target(Options()).any_grid is has
    ((_, _, name, fields),) = asked
    assert name == b"gpu::code_object"
    assert b"global_y" in fields
