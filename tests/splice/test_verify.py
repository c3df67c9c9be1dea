"""Kernels that are tried before they are taken, and what is kept of those that fail."""

import os
import subprocess
import sysconfig
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from iree_migraphx import binding, pipeline
from iree_migraphx.errors import KernelError, MigraphxError, Reason, Refusal
from iree_migraphx.kernels.invoke import StoppedError
from iree_migraphx.kernels.model import HostKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import emit
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.splice.runtime import LoadedKernel
from iree_migraphx.splice.verify import verify
from programs import Builder, extra_of, subgraphs_of

from .models import X, compiled, convolutions

HOST = parse_target("host")

# A kernel that hangs, or writes where it may not: no MLIR that IREE takes could be made to do that.
STANDING_IN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from iree_migraphx.splice import runtime, trial
runtime.LoadedKernel.run = lambda *arguments: {}
trial.child(sys.argv[2])
"""


@pytest.fixture
def options(kernel_options, tmp_path):
    return replace(kernel_options, verify=True, failures=tmp_path / "failures", workers=2)


def product(type_="float_type", behind="relu"):
    """A program with one dot, and its subgraph."""
    builder = Builder()
    dot = builder.op("dot", builder.param("a", [4, 16], type_), builder.param("b", [16, 8], type_))
    program = builder.build(builder.op(behind, dot) if behind else dot)
    return program, subgraphs_of(program)[0]


def request_of(subgraph):
    return Request("iree_dot", emit.lower(subgraph, "iree_dot", Form.OPERANDS), 3, "dot")


def verdict(program, subgraph, request, options):
    """What is said of a kernel that was made of `request` in the place of a subgraph."""
    made = compile_kernels([request], HOST, options)[0]
    assert isinstance(made.kernel, HostKernel), made.kernel
    requests, outcomes = {subgraph.key: request}, {subgraph.key: made}
    return made, verify(program, [subgraph], requests, outcomes, options)[subgraph.key]


def bundle(options):
    (folder,) = options.failures.iterdir()
    return folder, {path.name for path in folder.iterdir()}


def rerun(folder, **environment):
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", **environment}
    ended = subprocess.run([str(folder / "rerun.sh")], env=environment, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("type_", ["float_type", "half_type"])
def test_a_right_kernel_is_taken(type_, options):
    program, subgraph = product(type_)
    made, verified = verdict(program, subgraph, request_of(subgraph), options)
    assert verified == made
    assert not options.failures.exists()


def test_a_model_whose_kernels_are_right(options, capfd):
    program = compiled(convolutions(count=2), replace(options, quiet=False))
    assert (program.iree_report.swapped, program.iree_report.eligible) == (2, 2)
    assert program.iree_report.seconds["verify"] > 0
    assert "iree_migraphx: verifying 2 kernels for host\n" in capfd.readouterr().err


@pytest.mark.parametrize("type_", ["float_type", "half_type"])
def test_a_wrong_kernel_is_refused_and_leaves_a_bundle_that_shows_it(type_, options):
    program, subgraph = product(type_)
    right = request_of(subgraph)
    wrong = replace(right, mlir=right.mlir.replace("arith.addf", "arith.subf"))
    assert wrong != right
    made, verified = verdict(program, subgraph, wrong, options)
    assert verified.kernel.reason is Reason.WRONG_RESULT
    assert "elements differ by more than" in verified.kernel.detail
    assert verified.seconds == made.seconds
    folder, files = bundle(options)
    assert folder.name == "accuracy-wrong-result-iree_dot-host"
    arrays = {"input0.npy", "input1.npy", "expected.npy", "actual.npy"}
    assert files == arrays | {
        "command.txt", "failure.txt", "input.mlir", "kernel.vmfb", "rerun.sh", "stderr.txt", "versions.txt",
    }  # fmt: skip
    assert (folder / "failure.txt").read_text().startswith("class: accuracy\nreason: wrong-result (")
    a, b, expected = (np.load(folder / f"{name}.npy").astype(np.float64) for name in ("input0", "input1", "expected"))
    np.testing.assert_allclose(np.maximum(a @ b, 0), expected, atol=1e-2 if type_ == "half_type" else 1e-5)
    # The script sees it as well, in the kernel as it was and in what the compiler makes now, and when it is mended.
    for environment in ({"MODULE": "kernel.vmfb"}, {}):
        status, said = rerun(folder, **environment)
        assert (status, "does not match the expected" in said) == (1, True)
    (folder / "input.mlir").write_text(right.mlir)
    assert rerun(folder) == (0, rerun(folder)[1])
    assert "[SUCCESS]" in rerun(folder)[1]


def test_a_kernel_that_hangs(options, monkeypatch):
    program, subgraph = product()
    monkeypatch.setattr("iree_migraphx.splice.verify._CHILD", STANDING_IN.format("time.sleep(60)"))
    started = time.monotonic()
    _, verified = verdict(program, subgraph, request_of(subgraph), replace(options, timeout=1))
    assert (verified.kernel.reason, verified.kernel.detail) == (Reason.RUN_ERROR, "it ran for more than 1 s")
    assert time.monotonic() - started < 10
    folder, files = bundle(options)
    assert folder.name == "run-run-error-iree_dot-host"
    assert {"input0.npy", "input1.npy", "expected.npy"} <= files
    assert "actual.npy" not in files


def test_a_kernel_that_the_runtime_refuses_to_run(options):
    program, subgraph = product()
    other = Builder()
    dot = other.op("dot", other.param("a", [4, 99]), other.param("b", [99, 8]))
    (larger,) = subgraphs_of(other.build(other.op("relu", dot)))
    _, verified = verdict(program, subgraph, request_of(larger), options)
    assert verified.kernel.reason is Reason.RUN_ERROR
    folder, _ = bundle(options)
    assert "failed" in (folder / "stderr.txt").read_text()
    assert rerun(folder, MODULE="kernel.vmfb")[0] != 0


def test_a_kernel_that_takes_its_process_along(options, monkeypatch):
    program, subgraph = product()
    monkeypatch.setattr("iree_migraphx.splice.verify._CHILD", STANDING_IN.format("os.kill(os.getpid(), 11)"))
    _, verified = verdict(program, subgraph, request_of(subgraph), options)
    assert (verified.kernel.reason, verified.kernel.detail) == (Reason.RUN_ERROR, "ended by SIGSEGV")


def test_what_migraphx_can_not_compute_is_not_taken(options):
    program, subgraph = product()
    instructions = tuple(
        replace(each, name="no_such_operator") if each.name == "relu" else each for each in subgraph.body.instructions
    )
    odd = replace(subgraph, body=replace(subgraph.body, instructions=instructions))
    made = compile_kernels([request_of(subgraph)], HOST, options)[0]
    keys = {odd.key: request_of(subgraph)}
    verified = verify(program, [odd], keys, {odd.key: made}, options)[odd.key]
    assert verified.kernel.reason is Reason.RUN_ERROR
    assert "MIGraphX's ref target could not compute" in verified.kernel.detail


def test_the_whole_way(options, monkeypatch):
    """A wrong kernel stays out of the program, which is right all the same."""
    monkeypatch.setattr(emit, "lower", spoilt(emit.lower))
    onnx = convolutions(count=1)
    options = replace(options, cache_dir=options.failures.parent / "kernels")
    program = compiled(onnx, options)
    assert program.iree_report.reasons == {Reason.WRONG_RESULT: 1}
    alone = binding.parse_onnx_buffer(onnx)
    alone.compile(binding.get_target("ref"))
    np.testing.assert_array_equal(np.asarray(program.run({"x": X})[0]), np.asarray(alone.run({"x": X})[0]))


def spoilt(lower):
    return lambda *arguments: lower(*arguments).replace("arith.addf", "arith.subf")


def test_kernels_of_a_gpu_are_not_verified_and_the_report_says_so(options):
    report = pipeline.check(binding.parse_onnx_buffer(convolutions()), "gfx942", options)
    assert report.swapped == 1
    assert "kernels for a gpu can't be verified here" in report.note


def test_ctrl_c_ends_it(options, monkeypatch):
    program, subgraph = product()
    made = compile_kernels([request_of(subgraph)], HOST, options)[0]
    monkeypatch.setattr("iree_migraphx.splice.verify._CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr("iree_migraphx.splice.verify.as_completed", interrupted)
    started = time.monotonic()
    with pytest.raises((KeyboardInterrupt, StoppedError)):
        verify(program, [subgraph], {subgraph.key: request_of(subgraph)}, {subgraph.key: made}, options)
    assert time.monotonic() - started < 1.5


def interrupted(futures):
    threading.Event().wait(0.3)
    raise KeyboardInterrupt


def test_no_kernels_need_no_process(options):
    assert verify(*product()[:1], [], {}, {}, options) == {}


def test_a_kernel_that_fails_in_a_program_leaves_a_bundle(options, monkeypatch):
    options = replace(options, verify=False)
    program = compiled(convolutions(count=1), options)
    monkeypatch.setattr(LoadedKernel, "run", failing_run)
    with pytest.raises(MigraphxError, match="did not want to"):
        program.run({"x": X})
    folder, files = bundle(options)
    assert folder.name.startswith("run-run-error-iree_convolution_add_relu_")
    assert {"input0.npy", "input1.npy", "input2.npy", "rerun.sh"} <= files
    np.testing.assert_array_equal(np.load(folder / "input0.npy"), X)
    # By itself it works: the script tells.
    monkeypatch.undo()
    status, said = rerun(folder)
    assert (status, "EXEC @iree_convolution" in said) == (0, True)


def failing_run(self, pointers, constants, output):
    raise KernelError("it did not want to")


def test_without_being_asked_nothing_is_kept(kernel_options, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = replace(kernel_options, cache_dir=tmp_path / "kernels")
    program = compiled(convolutions(count=1), options)
    monkeypatch.setattr(LoadedKernel, "run", failing_run)
    with pytest.raises(MigraphxError):
        program.run({"x": X})
    assert not (options.cache_dir / "failures").exists()


def test_places_are_made_up_within_what_there_is(options):
    """MIGraphX reads, or with assertions on ends the process, where an index is outside."""
    builder = Builder()
    table, places = builder.param("x", (3, 64)), builder.param("i", (64,), "int64_type")
    program = builder.build(builder.op("tanh", builder.op("gather", table, places, axis=0)))
    (subgraph,) = extra_of(program)
    made, verified = verdict(program, subgraph, request_of(subgraph), options)
    assert not isinstance(verified.kernel, Refusal), verified.kernel
    assert verified == made
