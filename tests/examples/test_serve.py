"""The server: many requests at once, and what it says to wrong ones."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import serve

from iree_migraphx.cli.onnx_reference import in_onnxruntime

from .conftest import EXAMPLES


def request(address: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture
def address(settings: pytest.MonkeyPatch, conv_model: Path) -> Iterator[str]:
    server = serve.Server(("127.0.0.1", 0), serve.Service(conv_model, ["@x 1 3 8 8"]))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_gets_its_own_answer(address: str, conv_model: Path) -> None:
    given = np.random.default_rng(3).normal(size=(24, 1, 3, 8, 8)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: request(f"{address}/run", packed(x=x)), given))
    for x, (status, body) in zip(given, answers, strict=True):
        assert status == 200
        (expected,) = in_onnxruntime(conv_model, {"x": x})
        np.testing.assert_allclose(np.load(io.BytesIO(body))["y"], expected, rtol=1e-5, atol=1e-5)


def test_health_tells_who_computes(address: str) -> None:
    status, body = request(f"{address}/health")
    assert status == 200
    health = json.loads(body)
    assert health["outputs"] == ["y"]
    assert list(health["inputs"]) == ["x"]
    assert "1 of 1 subgraphs on IREE (host)" in health["iree"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/run", b"not a file", 400, "the body is no .npz file"),
        ("/run", packed(x=np.zeros((1, 3, 8, 9), np.float32)), 400, "'x'"),
        ("/run", packed(z=np.zeros(1)), 400, "no value given for 'x'"),
        ("/run", b"", 411, "the body has 0 bytes"),
        ("/other", packed(), 404, "there is no /other"),
        ("/other", None, 404, "there is no /other"),
    ],
)
def test_wrong_requests(address: str, path: str, body: bytes | None, status: int, message: str) -> None:
    code, said = request(address + path, body)
    assert code == status
    assert message in said.decode()


def test_the_command_ends_on_a_signal(settings: pytest.MonkeyPatch, conv_model: Path) -> None:
    command = [sys.executable, EXAMPLES / "serve.py", conv_model, "--input-dim", "@x 1 3 8 8", "--port", "0"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert request(f"{line.split()[-1]}/health")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_wrong_model_is_said_before_the_port_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main([str(tmp_path / "none.onnx")]) == 2
    assert "can't read the model" in capsys.readouterr().err
