"""Small models, and the example run on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runs, so that the models are compiled once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, kernel_cache: Path) -> pytest.MonkeyPatch:
    """The environment without settings of the tester's."""
    for name in [name for name in os.environ if name.startswith("IREE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_cache))
    return monkeypatch


@pytest.fixture
def command(settings: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The example's main function."""
    import run_onnx

    def run(*words: object) -> Ended:
        capfd.readouterr()
        try:
            code = run_onnx.main([str(word) for word in words])
        except SystemExit as ended:  # argparse
            code = int(str(ended.code))
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def script(settings: pytest.MonkeyPatch) -> Command:
    """The example as a process of its own."""

    def run(*words: object) -> Ended:
        ended = subprocess.run(script_command(words), capture_output=True, text=True, timeout=100, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


def script_command(words: Sequence[object]) -> list[str]:
    return [sys.executable, str(EXAMPLES / "run_onnx.py"), *map(str, words)]


def save(
    path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[object]]], **weights: object
) -> Path:
    """Write a model whose output is y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def conv_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution and a relu on x[N, 3, H, W]."""
    weights = np.random.default_rng(5).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    path = tmp_path_factory.mktemp("models") / "conv.onnx"
    return save(path, nodes, {"x": (TensorProto.FLOAT, ["n", 3, "h", "w"])}, w=weights)


@pytest.fixture(scope="session")
def lookup_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a table chosen by ids[2], plus bias[4]."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["g"]), helper.make_node("Add", ["g", "bias"], ["y"])]
    inputs: dict[str, tuple[int, list[object]]] = {"ids": (TensorProto.INT64, [2]), "bias": (TensorProto.FLOAT, [4])}
    path = tmp_path_factory.mktemp("models") / "lookup.onnx"
    return save(path, nodes, inputs, table=np.arange(8, dtype=np.float32).reshape(2, 4))
