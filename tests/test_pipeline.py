"""Compiling never leaves the user worse off: every failure of ours gives what MIGraphX alone would have given."""

import json
import re
import stat
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from iree_migraphx import binding, job, pipeline
from iree_migraphx.errors import CompilerNotFoundError, KernelError, MigraphxError, OptionError, Reason, Refusal
from iree_migraphx.kernels import compiler, requests, service
from iree_migraphx.lowering import emit
from iree_migraphx.options import Options
from iree_migraphx.splice import host
from iree_migraphx.splice.placeholder import Placeholder
from splice.models import X, assert_right, convolutions, model

REF = "ref"
ONNX = convolutions(count=2)


def parsed(onnx=ONNX, **how):
    return binding.parse_onnx_buffer(onnx, **how)


def compiled(options, onnx=ONNX, **how):
    return pipeline.compile(parsed(onnx), binding.get_target(REF), options=options, **how)


def assert_left_to_migraphx(program, reason, note, onnx=ONNX):
    """Right results, no operator of ours, and a report that says so."""
    report = program.iree_report
    assert report.reason is reason
    assert re.search(note, report.note), report.note
    assert report.swapped == 0
    assert all(s.provider == "migraphx" and s.reason is not None and s.kernel is None for s in report.subgraphs)
    assert "iree_convolution" not in repr(program)
    assert_right(program, onnx, {"x": X})


def test_convolutions_run_on_iree(kernel_options):
    program = compiled(kernel_options)
    report = program.iree_report
    assert (report.eligible, report.swapped, report.distinct) == (2, 2, 2)
    assert (report.target, report.arch, report.reason, report.note) == ("ref", "host", None, "")
    assert program.is_compiled()
    assert_right(program, ONNX, {"x": X})


class Boom(Exception):  # noqa: N818
    """Something that no stage is known to raise."""


STAGES = [
    (job, "read_program"),
    (job, "with_ordered_loops"),
    (job, "has_dynamic_shapes"),
    (job, "fold_constants"),
    (job, "partition"),
    (requests, "requests"),
    (emit, "lower"),
    (service, "compile_kernels"),
    (host, "splice_host"),
    (host, "register_custom_op"),
    (host, "splice_all"),
    (host, "device"),
    (job, "write_program"),
    (binding, "load_buffer"),
    (binding, "snapshot"),
    (job, "subgraph_reports"),
]


@pytest.mark.parametrize(("home", "name"), STAGES, ids=[name for _, name in STAGES])
@pytest.mark.parametrize("error", [Boom, MemoryError, OSError])
def test_whatever_a_stage_raises(kernel_options, monkeypatch, tmp_path, home, name, error):
    failures = []
    # What has been lowered before is kept, and is not lowered again.
    options = replace(kernel_options, cache_dir=tmp_path / "empty") if name == "lower" else kernel_options

    def fail(*arguments, **how):
        if name == "subgraph_reports" and failures:
            return ()
        failures.append(name)
        raise error("boom")

    monkeypatch.setattr(home, name, fail)
    program = compiled(options)
    monkeypatch.undo()
    assert failures
    assert_left_to_migraphx(program, Reason.SPLICE_ERROR, "boom")
    assert "boom" in program.iree_report.summary()


def test_a_refusal_of_a_stage_keeps_its_reason(kernel_options, monkeypatch):
    def refuse(*arguments):
        raise Refusal(Reason.DISK, "full")

    monkeypatch.setattr(job, "partition", refuse)
    assert_left_to_migraphx(compiled(kernel_options), Reason.DISK, "full")


def test_ctrl_c_is_not_swallowed(kernel_options, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "partition", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compiled(kernel_options)


def test_a_subgraph_that_can_not_be_lowered_stays_and_the_others_do_not(kernel_options, monkeypatch, tmp_path):
    real = emit.lower

    def lower(subgraph, *arguments):
        if subgraph.anchor == "dot":
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, "not this one")
        return real(subgraph, *arguments)

    monkeypatch.setattr(emit, "lower", lower)
    weights = [numpy_helper.from_array(np.ones(lens, np.float32), name) for name, lens in WEIGHTS.items()]
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("MatMul", ["c", "m"], ["y"])]
    onnx = model(nodes, {"x": (1, 4, 12, 12)}, ["y"], weights)
    program = compiled(replace(kernel_options, cache_dir=tmp_path / "empty"), onnx)
    convolution, dot = program.iree_report.subgraphs
    assert (convolution.provider, convolution.reason) == ("iree", None)
    assert (dot.provider, dot.reason, dot.detail) == ("migraphx", Reason.UNSUPPORTED_OPERATOR, "not this one")
    assert "1 of 2 subgraphs on IREE (host), 1 distinct kernels; 1 left to MIGraphX (1 unsupported-operator)" in (
        program.iree_report.summary()
    )
    assert_right(program, onnx, {"x": X})


WEIGHTS = {"w": (4, 4, 3, 3), "m": (10, 3)}


def test_a_placeholder_that_refuses_its_operands(kernel_options, monkeypatch):
    def refuse(self, inputs):
        raise KernelError("never these")

    monkeypatch.setattr(Placeholder, "compute_shape", refuse)
    program = compiled(kernel_options)
    assert_left_to_migraphx(program, Reason.SPLICE_ERROR, "never these")
    assert {s.reason for s in program.iree_report.subgraphs} == {Reason.SPLICE_ERROR}
    assert "0 of 2 subgraphs on IREE (host), 0 distinct kernels" in program.iree_report.summary()


def test_a_program_that_migraphx_can_not_load(kernel_options, monkeypatch):
    real = job.write_program
    monkeypatch.setattr(job, "write_program", lambda program: real(program)[:-20])
    assert_left_to_migraphx(compiled(kernel_options), Reason.SPLICE_ERROR, "FormatError|MigraphxError")


def test_a_program_that_migraphx_can_not_compile(kernel_options, monkeypatch):
    real, calls = binding.program.compile, []

    def once(self, *arguments):
        calls.append(self)
        if len(calls) == 1:
            raise MigraphxError("MIGraphX can't compile the program")
        real(self, *arguments)

    monkeypatch.setattr(binding.program, "compile", once)
    assert_left_to_migraphx(compiled(kernel_options), Reason.SPLICE_ERROR, "can't compile")


def test_what_migraphx_refuses_with_and_without_us_is_its_own_error(kernel_options):
    program = parsed()
    program.compile(binding.get_target(REF))
    with pytest.raises(MigraphxError, match="compiled already"):
        pipeline.compile(program, binding.get_target(REF), options=kernel_options)


def stand_in(folder, script):
    """A program in the place of iree-compile."""
    path = folder / "iree-compile"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


VERSION = 'case "$*" in *--version*) echo "IREE compiler version 0"; exit 0;; esac\n'


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'in.mlir:1:1: error: no idea' >&2; exit 1", Reason.COMPILE_ERROR),
        ("kill -SEGV $$", Reason.COMPILER_CRASH),
        ("sleep 60", Reason.TIMEOUT),
        ("exit 0", Reason.BAD_COMPILER_OUTPUT),
        ('while [ "$1" != -o ]; do shift; done; echo rubbish > "$2"', Reason.BAD_COMPILER_OUTPUT),
        ("echo 'error: No space left on device' >&2; exit 1", Reason.DISK),
    ],
)
def test_a_compiler_that_fails(kernel_options, tmp_path, script, reason):
    options = replace(kernel_options, iree_bin=stand_in(tmp_path, VERSION + script), cache=False, timeout=1.0)
    program = compiled(options)
    report = program.iree_report
    assert [(s.provider, s.reason) for s in report.subgraphs] == [("migraphx", reason)] * 2
    assert f"2 left to MIGraphX (2 {reason.value})" in report.summary()
    assert_right(program, ONNX, {"x": X})


def test_no_compiler_anywhere(kernel_options, monkeypatch):
    monkeypatch.setattr(compiler, "_candidates", lambda options: iter(()))
    assert_left_to_migraphx(compiled(kernel_options), Reason.NO_COMPILER, "pip install iree-base-compiler")


def test_a_compiler_that_the_user_names_must_be_one(kernel_options, tmp_path):
    with pytest.raises(CompilerNotFoundError, match="IREE_BIN"):
        compiled(replace(kernel_options, iree_bin=tmp_path))


def test_a_flag_that_the_compiler_does_not_take_is_an_error(kernel_options):
    with pytest.raises(OptionError, match="--no-such-flag"):
        compiled(replace(kernel_options, flags=("--no-such-flag",)))


def test_no_folder_for_temporary_files(kernel_options, monkeypatch, tmp_path):
    compiler._examine.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert_left_to_migraphx(compiled(kernel_options), Reason.DISK, "missing")


def test_a_cache_that_can_not_be_written(kernel_options, tmp_path):
    (tmp_path / "file").write_text("")
    program = compiled(replace(kernel_options, cache_dir=tmp_path / "file" / "cache"))
    assert program.iree_report.swapped == 2
    assert_right(program, ONNX, {"x": X})


def test_iree_switched_off(kernel_options, monkeypatch):
    monkeypatch.setattr(job, "read_program", lambda data: pytest.fail("nothing is to be read"))
    assert_left_to_migraphx(compiled(replace(kernel_options, disable=True)), Reason.DISABLED, "IREE_DISABLE")


def test_iree_switched_off_by_the_environment(monkeypatch):
    monkeypatch.setenv("IREE_DISABLE", "1")
    monkeypatch.setenv("IREE_MIGRAPHX_QUIET", "1")
    assert_left_to_migraphx(compiled(None), Reason.DISABLED, "IREE_DISABLE")


def test_dynamic_shapes(kernel_options):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    weights = [numpy_helper.from_array(np.ones(WEIGHTS["w"], np.float32), "w")]
    onnx = model(nodes, {"x": ("n", 4, 12, 12)}, ["y"], weights)
    program = parsed(onnx, map_dyn_input_dims={"x": [binding.shape.dynamic_dimension(1, 4), *map(fixed, (4, 12, 12))]})
    program = pipeline.compile(program, binding.get_target(REF), options=kernel_options)
    assert_left_to_migraphx(program, Reason.DYNAMIC_SHAPE, "dynamic", onnx)


def fixed(length):
    return binding.shape.dynamic_dimension(length, length)


def test_nothing_eligible(kernel_options):
    onnx = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 4, 12, 12)}, ["y"])
    program = compiled(kernel_options, onnx)
    assert program.iree_report.subgraphs == ()
    assert "nothing to do" in program.iree_report.summary()
    assert_right(program, onnx, {"x": X})


def test_a_device_that_the_target_is_not(kernel_options):
    with pytest.raises(OptionError, match="gfx942"):
        compiled(replace(kernel_options, arch="gfx942"))


def test_a_gpu_that_nobody_knows_is_left_to_migraphx(kernel_options, monkeypatch):
    class Gpu(type(binding.get_target(REF))):
        name = "gpu"

    gpu, given = object.__new__(Gpu), []
    monkeypatch.setattr(binding.program, "compile", lambda self, *how: given.append(how))
    program = pipeline.compile(parsed(), gpu, options=kernel_options)
    assert given == [(gpu, True, True, False)]
    assert program.iree_report.reason is Reason.UNKNOWN_DEVICE
    assert "IREE_MIGRAPHX_ARCH" in program.iree_report.note
    assert "nothing on IREE" in program.iree_report.summary()


@pytest.mark.parametrize("disable", [False, True])
def test_how_to_compile_is_passed_on(kernel_options, monkeypatch, disable):
    real, given = binding.program.compile, []

    def compile_(self, *how):
        given.append(how[1:])
        return real(self, *how)

    monkeypatch.setattr(binding.program, "compile", compile_)
    how = {"offload_copy": False, "fast_math": False, "exhaustive_tune": True}
    compiled(replace(kernel_options, disable=disable), **how)
    assert given == [(False, False, True)]


@pytest.mark.parametrize("disable", [False, True])
def test_the_original_is_not_touched(kernel_options, disable):
    program = parsed()
    before, text = binding.save_buffer(program), repr(program)
    other = pipeline.compile(program, binding.get_target(REF), options=replace(kernel_options, disable=disable))
    assert other is not program
    assert not program.is_compiled()
    assert program.iree_report is None
    assert (binding.save_buffer(program), repr(program)) == (before, text)
    program.compile(binding.get_target(REF))
    assert_right(program, ONNX, {"x": X})


FIELDS = {"name", "anchor", "operators", "inputs", "output", "provider", "reason", "compile_seconds", "cache", "kernel"}
RESOURCES = {
    "symbol", "launches", "workgroups", "workgroup_size", "lds_bytes", "vgprs", "agprs", "sgprs", "spills", "wavefront",
}  # fmt: skip


def test_the_report_as_json(kernel_options, tmp_path):
    # The first has another layout in front of it, and the last behind it; the two between them are equal.
    options = replace(kernel_options, cache_dir=tmp_path / "cache")
    report = compiled(options, convolutions(count=4)).iree_report
    report.save(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["format"] == 1
    assert (data["target"], data["arch"]) == ("ref", "host")
    assert data["summary"] == {"eligible": 4, "distinct": 3, "iree": 4, "migraphx": 0, "undecided": 0}
    _, first, second, _ = data["subgraphs"]
    for entry in data["subgraphs"]:
        assert set(entry) >= FIELDS
        assert (entry["anchor"], entry["provider"], entry["reason"]) == ("convolution", "iree", None)
        assert entry["operators"][0] == "convolution"
        assert entry["operators"][-1] == "relu"
        assert entry["inputs"][:2] == ["1x4x12x12 float", "4x4x3x3 float"]
        assert entry["output"] == "1x4x12x12 float"
        assert set(entry["kernel"]) == RESOURCES
        assert entry["kernel"]["symbol"].startswith("iree_convolution")
    assert first["name"] != second["name"]
    assert (first["cache"], second["cache"]) == ("miss", "shared")
    assert first["compile_seconds"] > 0
    assert second["compile_seconds"] == 0


def test_the_report_of_a_program_without_kernels_as_json(kernel_options):
    data = compiled(replace(kernel_options, disable=True)).iree_report.to_json()
    assert (data["reason"], data["subgraphs"]) == ("disabled", [])
    assert data["summary"] == {"eligible": 0, "distinct": 0, "iree": 0, "migraphx": 0, "undecided": 0}


def test_the_second_compile_takes_every_kernel_from_the_cache(kernel_options, tmp_path, monkeypatch):
    options = replace(kernel_options, cache_dir=tmp_path / "cache")
    assert "2 compiled now, 0 from the cache" in compiled(options).iree_report.summary()
    monkeypatch.setattr(service, "_compile", lambda *arguments: pytest.fail("nothing is to be compiled"))
    report = compiled(options).iree_report
    assert [(s.cache, s.compile_seconds) for s in report.subgraphs] == [("hit", 0.0), ("hit", 0.0)]


def test_stages_are_timed_and_add_up(kernel_options):
    import time

    start = time.perf_counter()
    report = compiled(kernel_options).iree_report
    total = time.perf_counter() - start
    stages = {"save", "read", "fold", "import", "partition", "lower", "compile", "splice", "write", "migraphx"}
    assert set(report.seconds) == stages
    assert sum(report.seconds.values()) <= total


def test_the_summary_goes_to_stderr_unless_quiet(kernel_options, capfd):
    compiled(kernel_options)
    assert capfd.readouterr() == ("", "")
    program = compiled(replace(kernel_options, quiet=False))
    out, err = capfd.readouterr()
    assert out == ""
    assert err == program.iree_report.summary() + "\n"
    assert "2 of 2 subgraphs on IREE (host), 2 distinct kernels" in err


def test_an_excluded_subgraph_stays_although_an_equal_one_does_not(kernel_options):
    onnx = convolutions(count=4)
    program = compiled(replace(kernel_options, exclude=("*_2",)), onnx)
    report = program.iree_report
    assert [s.reason for s in report.subgraphs] == [None, Reason.EXCLUDED, None, None]
    assert [s.provider for s in report.subgraphs] == ["iree", "migraphx", "iree", "iree"]
    assert report.subgraphs[1].key == report.subgraphs[2].key
    assert "1 left to MIGraphX (1 excluded)" in report.summary()
    assert repr(program).count("iree_convolution") == 3
    assert_right(program, onnx, {"x": X})


def test_with_everything_excluded_nothing_is_compiled(tmp_path):
    program = compiled(Options(cache_dir=tmp_path, quiet=True, include=("nothing",)))
    assert program.iree_report.reasons == {Reason.EXCLUDED: 2}
    assert not list(tmp_path.glob("??/*"))
    assert_right(program, ONNX, {"x": X})


def test_check_excludes_as_well(kernel_options):
    report = pipeline.check(
        parsed(), "gfx942", replace(kernel_options, exclude=("anchor=convolution & output=*float",))
    )
    assert (report.eligible, report.swapped) == (2, 0)


def test_level_0_says_one_line_even_while_kernels_compile(tmp_path, capfd):
    program = compiled(Options(cache_dir=tmp_path / "empty", debug=0))
    assert program.iree_report.subgraphs[0].cache == "miss"
    assert capfd.readouterr() == ("", program.iree_report.summary() + "\n")


def test_check_compiles_and_runs_nothing(kernel_options):
    program = parsed()
    report = pipeline.check(program, "gfx942", kernel_options)
    assert (report.target, report.arch, report.checked_only) == ("gpu", "gfx942", True)
    assert (report.eligible, report.swapped) == (2, 2)
    assert "accepted for gfx942 (not run)" in report.summary()
    kernel = report.subgraphs[0].kernel
    assert kernel.workgroups > 0
    assert kernel.wavefront == 64
    assert not program.is_compiled()


def test_mlir_that_is_not_valid_is_a_reason(monkeypatch):
    monkeypatch.setattr(emit, "_emit_body", lambda subgraph, arguments, *_: arguments[1:2])
    report = pipeline.check(parsed(convolutions()), "gfx942", Options(cache=False, quiet=True))
    assert report.reasons == {Reason.LOWERING_ERROR: 1}
    assert "doesn't match function result type" in report.subgraphs[0].detail
