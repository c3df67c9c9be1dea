import importlib
import sys

import pytest

import iree_migraphx
from iree_migraphx.binding import official_program
from iree_migraphx.dropin import lookup
from tests.hook.rocm_module import build


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """No module `migraphx` of another test, and no hook after this one."""
    monkeypatch.delitem(sys.modules, "migraphx", raising=False)
    lookup.namespace.cache_clear()
    official_program.check.cache_clear()
    yield
    monkeypatch.undo()
    iree_migraphx.uninstall()
    sys.modules.pop("migraphx", None)
    lookup.namespace.cache_clear()
    official_program.check.cache_clear()


@pytest.fixture(scope="session")
def rocm_folder(tmp_path_factory, pytestconfig):
    pytest.importorskip("pybind11")
    cache = getattr(pytestconfig, "cache", None)
    return build(cache.mkdir("iree_migraphx-rocm") if cache else tmp_path_factory.mktemp("rocm"))


@pytest.fixture
def rocm(rocm_folder, monkeypatch):
    """Imports ROCm's module, or what a hook makes of it."""
    monkeypatch.syspath_prepend(str(rocm_folder))
    importlib.invalidate_caches()
    return lambda: importlib.import_module("migraphx")
