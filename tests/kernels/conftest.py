import threading

import pytest

from iree_migraphx.kernels.compiler import compile_command, find_compiler
from iree_migraphx.kernels.flags import compile_flags, write_flags
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options


@pytest.fixture
def options(tmp_path):
    """Nothing of the user's: a cache of its own, and silence; a compiler for each kernel."""
    return Options(cache_dir=tmp_path / "cache", workers=2, quiet=True, timeout=60, kernels_per_process=1)


@pytest.fixture(scope="session")
def hal_text(tmp_path_factory):
    """The real compiler's hal phase of a request, made once a session."""
    known = {}

    def make(request, target="gfx942"):
        if (request, target) not in known:
            folder = tmp_path_factory.mktemp("hal")
            (folder / "in.mlir").write_text(request.mlir)
            device = parse_target(target)
            flags = write_flags(compile_flags(device, Options()), folder)
            command = compile_command(find_compiler(Options()), device, flags, folder / "in.mlir", folder / "out.mlir")
            ended = run(command, folder, 60, threading.Event())
            assert ended.status == 0, ended.errors
            known[request, target] = (folder / "out.mlir").read_text()
        return known[request, target]

    return make
