"""The hook and the drop-in names where ROCm's module is installed; here it is rocm_module.cpp's."""

import gc
import sys
import weakref

import numpy as np
import pytest

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.binding import official_program
from iree_migraphx.errors import MigraphxError, OptionError, Reason

X = np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)


def compiled(migraphx, file):
    program = migraphx.parse_onnx(file)
    program.compile(migraphx.get_target("ref"))
    return program


def output(program):
    (result,) = program.run({"x": X})
    return np.array(result)


@pytest.fixture
def plain(rocm, onnx_file):
    """What MIGraphX alone compiles and computes."""
    program = compiled(rocm(), onnx_file)
    return program, output(program)


def test_the_same_object_is_swapped_whatever_is_asked_of_it(rocm, onnx_file, plain, kernel_options, tmp_path):
    with iree_migraphx.install(kernel_options) as hook:
        migraphx = rocm()
        program = migraphx.parse_onnx(onnx_file)
        parsed = migraphx.parse_onnx(onnx_file)
        assert program.iree_report is None
        assert program == parsed
        program.compile(migraphx.get_target("ref"))
        assert type(program) is migraphx.program
        assert program.is_compiled()
        assert program.iree_report.swapped == program.iree_report.eligible == 2
        assert hook.reports == [program.iree_report]
    np.testing.assert_allclose(output(program), plain[1], rtol=1e-5, atol=1e-5)
    assert program != parsed
    assert program != plain[0]
    assert program.get_parameter_names() == ["x"]
    migraphx.save(program, str(tmp_path / "swapped.mxr"))
    again = migraphx.load(str(tmp_path / "swapped.mxr"))
    assert again == program
    np.testing.assert_array_equal(output(again), output(program))
    custom = [each for each in binding.from_official(program).get_main_module() if "iree" in each.name()]
    assert len(custom) == 2


def test_it_can_come_and_go_around_the_import(rocm, onnx_file, plain, kernel_options):
    migraphx = rocm()
    original = migraphx.program.__dict__["compile"]
    iree_migraphx.install(kernel_options)
    assert compiled(migraphx, onnx_file).iree_report.swapped == 2
    iree_migraphx.uninstall()
    assert migraphx.program.__dict__["compile"] is original
    assert compiled(migraphx, onnx_file) == plain[0]
    assert not hasattr(migraphx.program, "iree_report")
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "iree_migraphx.hook"]


def test_the_inner_hook_s_options_hold(rocm, onnx_file, plain, kernel_options):
    migraphx = rocm()
    with iree_migraphx.install(kernel_options) as outer:
        with iree_migraphx.install(iree_migraphx.Options(disable=True, quiet=True)) as inner:
            assert compiled(migraphx, onnx_file) == plain[0]
        assert compiled(migraphx, onnx_file) != plain[0]
    assert [report.reason for report in inner.reports] == [Reason.DISABLED]
    assert [report.reason for report in outer.reports] == [None]


def test_a_report_is_kept_as_long_as_its_program(rocm, onnx_file, kernel_options):
    from iree_migraphx import hook

    with iree_migraphx.install(kernel_options):
        program = compiled(rocm(), onnx_file)
        kept = len(hook._reports)
        del program
        gc.collect()
        assert len(hook._reports) == kept - 1


@pytest.fixture
def exchanged(monkeypatch):
    """Calls a function with what each program was exchanged for, which becomes what it was before."""
    references = []
    exchange = official_program.exchange

    def watched(program, other):
        references.append(weakref.ref(other) if isinstance(other, binding.program) else None)
        exchange(program, other)

    monkeypatch.setattr(official_program, "exchange", watched)
    return references


@pytest.mark.parametrize("way", ["hook", "hook after the import", "drop-in"])
@pytest.mark.parametrize("held", [True, False])
def test_modules_that_a_script_holds_stay_valid(rocm, onnx_file, kernel_options, exchanged, way, held):
    if way == "hook after the import":
        rocm()
    with iree_migraphx.install(kernel_options):
        migraphx = iree_migraphx if way == "drop-in" else rocm()
        program = migraphx.parse_onnx(onnx_file)
        modules = [program.get_main_module()] if held else []
        program.compile(migraphx.get_target("ref"))
        before = exchanged[-1]
        gc.collect()
        assert (before() is not None) == (held or way == "hook after the import")
        modules.clear()
        gc.collect()
        assert (before() is not None) == (way == "hook after the import")
        del program
        gc.collect()
        assert before() is None


def test_what_fails_on_our_side_is_left_to_migraphx(rocm, onnx_file, plain, kernel_options, monkeypatch):
    def unknown(*given):
        raise MigraphxError("laid out otherwise")

    monkeypatch.setattr(official_program, "check", unknown)
    with iree_migraphx.install(kernel_options):
        program = compiled(rocm(), onnx_file)
        assert (program.iree_report.reason, program.iree_report.swapped) == (Reason.SPLICE_ERROR, 0)
        assert "laid out otherwise" in program.iree_report.summary()
    assert program == plain[0]


def test_an_assignment_that_fails_at_the_end_leaves_the_program_to_migraphx(
    rocm, onnx_file, plain, kernel_options, monkeypatch
):
    def broken(theirs, own):
        raise MigraphxError("no room")

    monkeypatch.setattr(official_program, "exchange", broken)
    with iree_migraphx.install(kernel_options):
        program = compiled(rocm(), onnx_file)
        assert [s.provider for s in program.iree_report.subgraphs] == ["migraphx", "migraphx"]
    assert program == plain[0]


def test_mistakes_end_as_without_the_hook(rocm, onnx_file, kernel_options, monkeypatch):
    with iree_migraphx.install():
        migraphx = rocm()
        program = migraphx.parse_onnx(onnx_file)
        with pytest.raises(TypeError, match="incompatible function arguments"):
            program.compile("ref")
        with pytest.raises(TypeError):
            program.compile(migraphx.get_target("ref"), offload=True)
        monkeypatch.setenv("IREE_DEBUG", "loud")
        with pytest.raises(OptionError, match="IREE_DEBUG"):
            program.compile(migraphx.get_target("ref"))
        monkeypatch.delenv("IREE_DEBUG")
        assert not program.is_compiled()


def test_the_names_stand_on_rocm_s_module(rocm, onnx_file, plain, kernel_options, tmp_path):
    migraphx = rocm()
    assert issubclass(iree_migraphx.program, migraphx.program)
    assert iree_migraphx.__version__ == migraphx.__version__
    assert iree_migraphx.save is migraphx.save
    with pytest.raises(AttributeError, match=r"MIGraphX \S+ as installed .* has no 'gpu_sync': .* gpu target"):
        _ = iree_migraphx.gpu_sync
    program = iree_migraphx.parse_onnx(onnx_file)
    assert isinstance(program, iree_migraphx.program)
    program.compile(iree_migraphx.get_target("ref"), options=kernel_options)
    assert program.iree_report.swapped == 2
    np.testing.assert_allclose(output(program), plain[1], rtol=1e-5, atol=1e-5)
    iree_migraphx.save(program, str(tmp_path / "swapped.mxr"))
    assert iree_migraphx.load(str(tmp_path / "swapped.mxr")) == program
    assert compiled(migraphx, onnx_file) == plain[0]  # ROCm's own class is as it was


def test_compile_gives_another_program_of_rocm_s(rocm, onnx_file, kernel_options):
    migraphx = rocm()
    program = migraphx.parse_onnx(onnx_file)
    made = iree_migraphx.compile(program, migraphx.get_target("ref"), options=kernel_options)
    assert isinstance(made, migraphx.program)
    assert made.iree_report.swapped == 2
    assert not program.is_compiled()


class Stranger:
    """As many words as pybind11's objects; in Python's order of slots, which is the alphabet's."""

    __slots__ = ("a_address", "b_owner", "c_room", "d_weak", "e_flags")


@pytest.mark.parametrize(("sized", "problem"), [(False, "the sizes"), (True, "something else")])
def test_objects_of_another_layout_are_not_touched(rocm, monkeypatch, sized, problem):
    migraphx = rocm()
    official_program.assign(migraphx.program(), binding.program())
    stranger = Stranger()
    stranger.a_address = stranger.b_owner = problem  # the same address twice, but no flags
    monkeypatch.setattr(migraphx, "program", Stranger)
    monkeypatch.setattr(Stranger, "__module__", "migraphx")
    if sized:
        monkeypatch.setattr(official_program, "_check_sizes", lambda kind: None)
    with pytest.raises(MigraphxError, match=rf"{problem}.*laid out otherwise than by pybind11"):
        official_program.assign(stranger, binding.program())
