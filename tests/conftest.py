import os
import signal

import pytest

from iree_migraphx.options import Options

try:
    from hypothesis import settings
except ImportError:  # the other tests do without
    settings = None


def pytest_addoption(parser):
    parser.addoption("--examples", type=int, default=None, help="programs that each property test makes up")
    parser.addoption("--whole-models", action="store_true", help="tests that compile whole models, too: minutes each")
    parser.addoption("--update-golden", action="store_true", help="write the files in tests/golden anew")


def pytest_configure(config):
    # What a shell starts in the background ignores Ctrl-C, and so would everything that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "whole_model: compiles a whole model, for minutes; runs with --whole-models")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--whole-models"):
        left_out = pytest.mark.skip(reason="--whole-models was not given")
        for item in items:
            if item.get_closest_marker("whole_model"):
                item.add_marker(left_out)


@pytest.fixture(autouse=True)
def nothing_of_the_users(monkeypatch, tmp_path):
    """No setting and no kernel of the user's gets into a test, and none of a test's gets out."""
    for name in list(os.environ):
        if name.startswith("IREE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(tmp_path / "kernels"))


@pytest.fixture(scope="session")
def kernel_options(tmp_path_factory, pytestconfig):
    """Options whose kernels are kept until pytest's own cache is cleared; the keys say all that they depend on."""
    cache = getattr(pytestconfig, "cache", None)
    folder = cache.mkdir("iree_migraphx-kernels") if cache else tmp_path_factory.mktemp("kernels")
    folder.chmod(0o700)
    return Options(cache_dir=folder, quiet=True)


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory):
    """A model file: input x, float 1x4x6x6; two subgraphs; output float 1x6x6x5."""
    from tests.binding.models import convolution

    path = tmp_path_factory.mktemp("model") / "convolution.onnx"
    path.write_bytes(convolution().SerializeToString())
    return str(path)


@pytest.fixture(scope="session")
def examples(pytestconfig):
    """Settings of a property test that makes `count` programs up, or as many as --examples says."""

    def of(count):
        wanted = pytestconfig.getoption("--examples")
        return settings(
            max_examples=wanted or count, deadline=None, derandomize=wanted is None, database=None, print_blob=True
        )

    return of


@pytest.fixture(scope="session")
def examples_wanted(pytestconfig):
    """What --examples says; None where it does not."""
    return pytestconfig.getoption("--examples")
