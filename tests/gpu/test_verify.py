"""Kernels that are tried on the device before they are taken; a virtual one computes nothing unless it is told what."""

import os
import subprocess
import sysconfig
from dataclasses import replace

import numpy as np
import pytest

from iree_migraphx import binding, pipeline
from iree_migraphx.errors import Reason
from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import emit
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.splice.verify import verify
from programs import Builder, subgraphs_of
from splice.models import convolutions

TARGET = "mi300x:sramecc+:xnack-"

# The process that tries, with a device that computes the product of 4x16 and 16x8.
COMPUTING = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
import numpy as np
from iree_migraphx.ir.read import read_program
from iree_migraphx.splice import gpu_trial
from virtual_hip.device import KernelSpec, VirtualDevice

def compute(buffers):
    a, b, c = (buffer.view(np.float32) for buffer in buffers)
    c[:] = FACTOR * (a.reshape(4, 16) @ b.reshape(16, 8)).reshape(-1)

with open(sys.argv[2] + "/spliced.mxr", "rb") as file:
    spliced = read_program(file.read())
(symbol,) = (i.operator["symbol_name"] for i in spliced.instructions() if i.name == "gpu::code_object")
with VirtualDevice() as device:
    device.register(symbol, KernelSpec((256, 512, 128), compute))
    gpu_trial.child(*sys.argv[2:])
    device.check()
"""


@pytest.fixture
def options(kernel_options, tmp_path):
    return replace(kernel_options, verify=True, failures=tmp_path / "failures", eligible="all", workers=1)


def verdict(options, monkeypatch, script):
    """What is said of the kernel of a product by a process that does what `script` says."""
    binding.get_target("gpu")
    builder = Builder()
    program = builder.build(builder.op("dot", builder.param("a", [4, 16]), builder.param("b", [16, 8])))
    (subgraph,) = subgraphs_of(program)
    request = Request("iree_dot", emit.lower(subgraph, "iree_dot", Form.OPERANDS), 3, "dot")
    (made,) = compile_kernels([request], parse_target(TARGET), options)
    assert isinstance(made.kernel, GpuKernel)
    assert made.kernel.operands == (0, 1, 2)
    monkeypatch.setattr("iree_migraphx.splice.verify._GPU_CHILD", script)
    requests, outcomes = {subgraph.key: request}, {subgraph.key: made}
    return made, verify(program, [subgraph], requests, outcomes, options, TARGET)[subgraph.key]


def test_a_right_kernel_is_taken(options, virtual_device, monkeypatch):
    made, verified = verdict(options, monkeypatch, COMPUTING.replace("FACTOR", "1"))
    assert verified == made
    assert not options.failures.exists()


def test_a_wrong_kernel_leaves_a_bundle_that_compiles_for_irees_own_runtime(options, virtual_device, monkeypatch):
    _, verified = verdict(options, monkeypatch, COMPUTING.replace("FACTOR", "1.01"))
    assert verified.kernel.reason is Reason.WRONG_RESULT
    (folder,) = options.failures.iterdir()
    assert folder.name == "accuracy-wrong-result-iree_dot-mi300x"
    assert (
        f"class: accuracy\nreason: wrong-result ({Reason.WRONG_RESULT.description})"
        in (folder / "failure.txt").read_text()
    )
    expected, actual = (np.load(folder / f"{name}.npy") for name in ("expected", "actual"))
    np.testing.assert_allclose(actual, 1.01 * expected, rtol=1e-5)
    assert (folder / "kernel.hsaco").read_bytes().startswith(b"\x7fELF")
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    # There is no device to run it on, as far as IREE's runtime knows.
    subprocess.run([str(folder / "rerun.sh")], env=environment | {"IREE_RUN_MODULE": "true"}, check=True, timeout=60)
    assert (folder / "output").stat().st_size > 1000
    assert "--device=hip" in (folder / "rerun.sh").read_text()


def test_a_kernel_that_crashes(options, virtual_device, monkeypatch):
    _, verified = verdict(options, monkeypatch, "import os; os.kill(os.getpid(), 11)")
    assert verified.kernel.reason is Reason.RUN_ERROR
    assert [path.name for path in options.failures.iterdir()] == ["run-run-error-iree_dot-mi300x"]


def test_a_model_whose_kernels_do_nothing_is_left_to_migraphx(options, virtual_device, capfd):
    program = binding.parse_onnx_buffer(convolutions(count=1))
    done = pipeline.compile(program, binding.get_target("gpu"), options=replace(options, quiet=False))
    assert (done.iree_report.swapped, done.iree_report.eligible) == (0, 1)
    assert [each.reason for each in done.iree_report.subgraphs] == [Reason.WRONG_RESULT]
    assert done.iree_report.seconds["verify"] > 0
    assert f"iree_migraphx: verifying 1 kernel for {TARGET}\n" in capfd.readouterr().err
    assert done.is_compiled()
