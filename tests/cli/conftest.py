"""A small model for the commands, and kernels that are compiled once."""

import json

import pytest

from iree_migraphx.cli.main import main
from splice.models import convolutions


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Three convolutions, one after the other."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(convolutions(count=3))
    return path


@pytest.fixture
def command(monkeypatch, kernel_options, capsys):
    """Runs a command line, with kernels that are kept: its status, standard output and standard error."""
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_options.cache_dir))

    def run(*words, status=0):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert code == status, err
        return out, err

    return run


@pytest.fixture
def json_of(command):
    """What a command prints with --json."""
    return lambda *words, status=0: json.loads(command(*words, "--json", status=status)[0])
