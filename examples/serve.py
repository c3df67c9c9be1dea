#!/usr/bin/env python3
"""Serve a model over HTTP: compiled once before the port opens, then run by as many threads as there are requests.

    python examples/serve.py model.onnx --input-dim "@x 1 3 224 224" --port 8000

    POST /run     inputs as an .npz file, by their names; the answer is an .npz file with the outputs
    GET  /health  the summary of the compile's report

Start it with IREE_MIGRAPHX_CACHE_READONLY at a folder that `iree-migraphx precompile` filled, and nothing is compiled.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import signal
import sys
import threading
import zipfile
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

import iree_migraphx as migraphx
from iree_migraphx.cli.lengths import check_dims, parse_dims, read_face
from iree_migraphx.errors import InputError, IreeMigraphxError, OptionError

#: Bytes of a request's body that are taken.
LARGEST = 1 << 30


class Service:
    """A compiled model that any thread may run.

    On the target ref a program runs in many threads at once. On the gpu a program has one scratch memory, so runs take
    turns there.
    """

    def __init__(self, model: Path, input_dims: Sequence[str] = (), target: str = "ref") -> None:
        face, dims = read_face(model), parse_dims(input_dims)
        check_dims(dims, face.inputs)
        self.program = migraphx.parse_onnx(str(model), map_input_dims=dims)
        self.program.compile(migraphx.get_target(target))
        self.names = face.outputs
        self._turn = threading.Lock() if target == "gpu" else contextlib.nullcontext()

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Outputs by name."""
        with self._turn:
            results = self.program.run(values)
            return {name: np.array(result) for name, result in zip(self.names, results, strict=True)}

    def health(self) -> dict[str, Any]:
        """What a load balancer wants to know."""
        report = self.program.iree_report
        return {"inputs": {name: str(of) for name, of in self.program.get_parameter_shapes().items()},
                "outputs": self.names, "iree": report.summary() if report else ""}  # fmt: skip


class Server(ThreadingHTTPServer):
    """A thread a request."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        super().__init__(address, Handler)
        self.service = service


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        """/health."""
        if self.path != "/health":
            self._fail(404, f"there is no {self.path}; GET /health, POST /run")
        else:
            self._answer(200, "application/json", json.dumps(self.server.service.health()).encode() + b"\n")

    def do_POST(self) -> None:
        """/run."""
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/run":
            self._fail(404, f"there is no {self.path}; GET /health, POST /run")
        elif not 0 < length <= LARGEST:
            self._fail(413 if length else 411, f"the body has {length} bytes; an .npz file of 1 to {LARGEST} is taken")
        else:
            self._run(self.rfile.read(length))

    def _run(self, body: bytes) -> None:
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
        except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            self._fail(400, f"the body is no .npz file: {error}")
            return
        try:
            results = self.server.service.run(values)
        except InputError as error:
            self._fail(400, str(error))
            return
        except (IreeMigraphxError, RuntimeError) as error:
            self._fail(500, str(error))
            return
        answer = io.BytesIO()
        np.savez(answer, **results)
        self._answer(200, "application/zip", answer.getvalue())

    def _fail(self, status: int, message: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", message.encode() + b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form: str, *arguments: Any) -> None:
        """Nothing for what went well."""
        if not str(arguments[1] if len(arguments) > 1 else "").startswith("2"):
            super().log_message(form, *arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; return the exit code: 0, 1 where MIGraphX can't compile, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--input-dim", action="extend", nargs="+", default=[], metavar="DIM", help='"@name 1 3 8 8"')
    parser.add_argument("--target", default="ref", help="MIGraphX's target: ref (default) or gpu")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    given = parser.parse_args(argv)
    try:
        server = Server((given.host, given.port), Service(given.model, given.input_dim, given.target))
    except (InputError, OptionError, OSError) as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 2
    except IreeMigraphxError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 1
    # shutdown() waits for serve_forever, which runs in this thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving on http://{given.host}:{server.server_port}", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
