"""ROCm's own module where it is installed; else a stand-in of its interface, with the same ways of sharing memory."""

import gc
import importlib.util
import sys
import types

import ml_dtypes
import numpy as np
import pytest

import iree_migraphx
import iree_migraphx.binding as mx
from iree_migraphx.binding import official
from iree_migraphx.errors import LibraryNotFoundError
from iree_migraphx.options import Options
from tests.binding.models import convolution, parsed, relu


def stand_in():
    """What ROCm's module offers that interop needs; its arguments keep nothing alive, as the original's."""
    module = types.ModuleType("migraphx")

    class Shape:
        def __init__(self, type, lens, strides):  # noqa: A002
            self.own = mx.shape(type=type, lens=lens, strides=strides)

        def __getattr__(self, name):
            return getattr(self.own, name)

    class Argument:
        def __init__(self, own):
            self.own = own

        def get_shape(self):
            shape = self.own.get_shape()
            return Shape(shape.type_string(), shape.lens(), shape.strides())

        def data_ptr(self):
            return self.own.data_ptr()

        __hash__ = None

        def __eq__(self, other):
            return self.own == other.own

    class Program:
        def __init__(self, own):
            self.own = own

        def compile(self, t, offload_copy=True, fast_math=True, exhaustive_tune=False):
            if t.own.name == "broken":
                raise RuntimeError("no such device")
            self.own.compile(t.own, offload_copy, fast_math, exhaustive_tune)

        def to_py(self):
            return "m = p.get_main_module()\n"

    class Target:
        def __init__(self, own):
            self.own = own

    Argument.__module__ = Program.__module__ = Target.__module__ = "migraphx"
    module.get_target = lambda name: Target(mx.get_target(name))
    module.shape, module.argument, module.program = Shape, Argument, Program
    module.argument_from_pointer = lambda shape, address: Argument(mx.argument_from_pointer(shape.own, address))
    module.generate_argument = lambda shape: Argument(mx.generate_argument(shape.own))
    module.save_buffer = lambda program: mx.save_buffer(program.own)
    module.load_buffer = lambda data: Program(mx.load_buffer(data))
    module.save = lambda program, filename: mx.save(program.own, filename)
    module.load = lambda filename: Program(mx.load(filename))
    module.autocast_fp8 = lambda program: None
    return module


@pytest.fixture
def migraphx(monkeypatch):
    spec = importlib.util.find_spec("migraphx")
    if spec is None or not str(spec.origin).endswith(".so"):
        monkeypatch.setitem(sys.modules, "migraphx", stand_in())
    return official.module()


def their_argument(migraphx, name, lens, strides):
    return migraphx.generate_argument(migraphx.shape(type=name, lens=lens, strides=strides))


@pytest.mark.parametrize("name", ["float_type", "half_type", "bf16_type", "int8_type"])
def test_their_arguments_are_shared_and_kept(migraphx, name):
    theirs = their_argument(migraphx, name, [2, 300], [1, 2])
    ours = official.argument_from(theirs)
    assert (ours.data_ptr(), repr(ours.get_shape())) == (theirs.data_ptr(), f"{name}, {{2, 300}}, {{1, 2}}")
    expected = ours.tolist()
    del theirs
    gc.collect()
    junk = [np.full(1000, -1, np.int8) for _ in range(100)]
    assert ours.tolist() == expected
    del junk


def test_our_arguments_are_shared_and_kept(migraphx):
    array = np.arange(6).astype(ml_dtypes.bfloat16).reshape(2, 3).T
    ours = mx.argument(array)
    theirs = official.argument_to(ours)
    assert official.is_official(theirs)
    assert not official.is_official(ours)
    assert theirs.data_ptr() == array.ctypes.data
    del ours, array
    gc.collect()
    junk = [np.full(6, -1, ml_dtypes.bfloat16) for _ in range(100)]
    assert official.argument_from(theirs).tolist() == [0, 3, 1, 4, 2, 5]
    del junk


def test_memory_is_given_back_with_their_argument(migraphx):
    array = np.zeros(3, np.float32)
    theirs = official.argument_to(mx.argument(array))
    held = sys.getrefcount(array)
    del theirs
    gc.collect()
    assert sys.getrefcount(array) < held


def test_run_takes_their_arguments(migraphx):
    program = parsed(relu())
    theirs = their_argument(migraphx, "float_type", [2, 3], [3, 1])
    (result,) = program.run({"x": theirs})
    assert result.tolist() == [max(each, 0) for each in official.argument_from(theirs).tolist()]


@pytest.mark.parametrize("old", [False, True])
def test_programs_go_there_and_back(migraphx, monkeypatch, old):
    if old:  # before release 7.1 there are only files
        monkeypatch.delattr(migraphx, "save_buffer")
        monkeypatch.delattr(migraphx, "load_buffer")
    program = parsed(convolution())
    theirs = mx.to_official(program)
    assert official.is_official(theirs)
    assert mx.from_official(theirs) == program
    program.compile(mx.get_target("ref"))
    assert mx.from_official(mx.to_official(program)).is_compiled()


def test_what_only_their_module_can(migraphx):
    program = parsed(relu())
    assert "get_main_module" in program.to_py()
    mx.autocast_fp8(program)
    assert program == parsed(relu())


def test_without_their_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "migraphx", None)
    with pytest.raises(LibraryNotFoundError, match="ROCm's Python module `migraphx` can't be imported"):
        mx.to_official(parsed(relu()))


def test_pypi_s_placeholder_is_told_apart(monkeypatch):
    placeholder = types.ModuleType("migraphx")
    placeholder.__file__ = "site-packages/migraphx/__init__.py"
    monkeypatch.setitem(sys.modules, "migraphx", placeholder)
    with pytest.raises(LibraryNotFoundError, match=r"migraphx/__init__\.py is not ROCm's .*placeholder"):
        official.module()


def test_the_pipeline_takes_programs_and_targets_of_rocm(migraphx, tmp_path):
    program = mx.to_official(parsed(convolution()))
    compiled = iree_migraphx.compile(
        program, migraphx.get_target("ref"), options=Options(cache_dir=tmp_path / "cache", quiet=True)
    )
    assert compiled.iree_report.swapped == compiled.iree_report.eligible > 0
    assert isinstance(mx.to_official(compiled), migraphx.program)


def test_programs_and_targets_of_nobody_are_refused():
    with pytest.raises(TypeError, match="a program is wanted"):
        mx.own_program("model.onnx")
    with pytest.raises(TypeError, match="a target is wanted"):
        mx.own_target("ref")
