"""The hook where ROCm's module is not installed."""

import importlib
import importlib.util
import sys
import types

import pytest

import iree_migraphx
from iree_migraphx.binding import library
from iree_migraphx.errors import LibraryNotFoundError


@pytest.fixture(autouse=True)
def nothing_of_rocm_s(monkeypatch):
    spec = importlib.util.find_spec("migraphx")
    if spec is not None and library.is_extension(spec):
        pytest.skip("ROCm's module is installed")


def test_import_gives_this_package_s_names():
    with iree_migraphx.install():
        import migraphx

        assert migraphx.__name__ == "migraphx"
        assert migraphx.program is iree_migraphx.program
        assert migraphx.__version__ == iree_migraphx.__version__
        assert set(iree_migraphx.__all__) <= set(dir(migraphx))
        with pytest.raises(AttributeError, match="has no 'macro'"):
            _ = migraphx.macro
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("migraphx")


def test_pypi_s_placeholder_counts_as_absent(tmp_path, monkeypatch):
    (tmp_path / "migraphx").mkdir()
    (tmp_path / "migraphx/__init__.py").write_text("# reserved\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not hasattr(importlib.import_module("migraphx"), "program")
    with iree_migraphx.install():
        assert importlib.import_module("migraphx").program is iree_migraphx.program
    assert not hasattr(importlib.import_module("migraphx"), "program")


def test_hooks_may_be_nested():
    with iree_migraphx.install() as outer:
        with iree_migraphx.install():
            module = importlib.import_module("migraphx")
        assert importlib.import_module("migraphx") is module
        assert module.program is iree_migraphx.program
        outer.uninstall()
        assert "migraphx" not in sys.modules


def test_scripts_that_can_do_without_migraphx_learn_that_there_is_none(monkeypatch):
    def missing():
        raise LibraryNotFoundError("libmigraphx_c.so.3 can't be loaded")

    monkeypatch.setattr(library, "load", missing)
    with iree_migraphx.install(), pytest.raises(ModuleNotFoundError, match="libmigraphx_c") as caught:
        importlib.import_module("migraphx")
    assert caught.value.name == "migraphx"


def test_other_modules_are_imported_as_ever():
    with iree_migraphx.install():
        assert isinstance(importlib.import_module("wave"), types.ModuleType)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("migraphx.parts")
