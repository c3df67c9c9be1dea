"""The names of ROCm's module on libmigraphx_c alone."""

import importlib
import inspect
import subprocess
import sys
import threading

import numpy as np
import pytest

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.binding import capi, library, official
from iree_migraphx.dropin import compiling, lookup, own
from iree_migraphx.dropin.names import OFFICIAL
from iree_migraphx.errors import InputError, LibraryNotFoundError, MigraphxError, Reason
from tests.binding.models import convolution, parsed, relu

X = np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)


def ours(model):
    return own.parse_onnx_buffer(model.SerializeToString())


def output(program):
    (result,) = program.run({"x": X})
    return np.array(result)


def plain():
    program = parsed(convolution())
    program.compile(binding.get_target("ref"))
    return program


def test_compile_works_in_place(kernel_options, tmp_path, capfd):
    program = ours(convolution())
    main, before = program.get_main_module(), ours(convolution())
    assert program == before
    assert program.compile(own.get_target("ref"), True, options=kernel_options) is None
    assert program.is_compiled()
    assert program.iree_report.swapped == program.iree_report.eligible == 2
    np.testing.assert_allclose(output(program), output(plain()), rtol=1e-5, atol=1e-5)
    assert program != before
    assert sum("iree" in each.name() for each in main) == 2
    assert program.get_output_shapes()[0].lens() == [1, 6, 6, 5]
    own.save(program, tmp_path / "swapped.mxr")
    again = own.load(tmp_path / "swapped.mxr")
    assert again == program
    np.testing.assert_array_equal(output(again), output(program))
    program.print()
    assert "iree" in capfd.readouterr().out


def test_a_compiled_program_refuses_what_migraphx_refuses(kernel_options):
    program = ours(convolution())
    program.compile(own.get_target("ref"), options=kernel_options)
    report, expected = program.iree_report, output(program)
    with pytest.raises(MigraphxError, match="compiled already"):
        program.compile(own.get_target("ref"), options=kernel_options)
    with pytest.raises(MigraphxError, match="compiled already"):
        own.quantize_fp16(program)
    assert program.iree_report is report
    np.testing.assert_array_equal(output(program), expected)


def test_results_outlive_the_compile(kernel_options):
    program = ours(relu((1, 4, 6, 6)))
    (early,) = program.run({"x": X})
    program.compile(own.get_target("ref"), options=kernel_options)
    np.testing.assert_array_equal(np.asarray(early), np.maximum(X, 0))


def test_a_quantized_program_is_swapped(kernel_options):
    program = ours(convolution())
    own.quantize_fp16(program)
    program.compile(own.get_target("ref"), options=kernel_options)
    assert program.iree_report.swapped == 2
    np.testing.assert_allclose(output(program), output(plain()), rtol=2e-2, atol=2e-2)


def test_mistakes_end_as_in_migraphx_and_may_be_mended(kernel_options):
    program = ours(convolution())
    with pytest.raises(TypeError, match="compile takes a target"):
        program.compile("ref")
    with pytest.raises(InputError, match="no instructions"):
        own.program().compile(own.get_target("ref"), options=kernel_options)
    program.compile(own.get_target("ref"), options=kernel_options)
    assert program.iree_report.swapped == 2


def test_disabled_is_plain_migraphx(monkeypatch):
    monkeypatch.setenv("IREE_DISABLE", "1")
    program = ours(convolution())
    program.compile(own.get_target("ref"))
    assert program.iree_report.reason is Reason.DISABLED
    assert program == plain()


def test_what_fails_on_our_side_is_left_to_migraphx(kernel_options, monkeypatch):
    def broken(self, other):
        raise MigraphxError("no room")

    monkeypatch.setattr(binding.program, "become", broken)
    program = ours(convolution())
    program.compile(own.get_target("ref"), options=kernel_options)
    assert [s.provider for s in program.iree_report.subgraphs] == ["migraphx", "migraphx"]
    assert "no room" in program.iree_report.note
    assert program == plain()


def test_a_program_is_compiled_in_one_thread_and_run_in_another(kernel_options):
    program, results = ours(convolution()), []
    program.compile(own.get_target("ref"), options=kernel_options)
    thread = threading.Thread(target=lambda: results.append(output(program)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(results[0], output(program))


def test_compile_gives_another_program(kernel_options):
    program = ours(convolution())
    made = compiling.compile(program, own.get_target("ref"), options=kernel_options)
    assert (type(made), made.is_compiled(), program.is_compiled()) == (own.program, True, False)
    assert made.iree_report.swapped == 2


@pytest.mark.skipif(official.installed(), reason="the names stand on ROCm's module")
class TestNames:
    def test_every_name_of_rocm_s_module_is_there_or_says_why_not(self):
        absent = {"get_onnx_operators", "macro"}
        if "gpu" not in library.known_targets():
            absent |= {"allocate_gpu", "from_gpu", "gpu_sync", "to_gpu"}
        assert {name for name in OFFICIAL if not hasattr(iree_migraphx, name)} == absent
        for name in absent:
            with pytest.raises(AttributeError, match=rf"MIGraphX \S+ as installed \(/.*\) has no '{name}': \w+"):
                getattr(iree_migraphx, name)

    def test_a_name_that_nobody_has(self):
        with pytest.raises(AttributeError, match="neither MIGraphX nor iree_migraphx has 'quantise_fp16'"):
            _ = iree_migraphx.quantise_fp16
        with pytest.raises(ImportError):
            importlib.import_module("iree_migraphx.quantise")

    def test_a_build_without_gpu_has_no_values_on_one(self, monkeypatch):
        monkeypatch.setattr(library, "known_targets", lambda: ["ref"])
        lookup.namespace.cache_clear()
        with pytest.raises(AttributeError, match="has no 'to_gpu': it was built without the gpu target"):
            _ = iree_migraphx.to_gpu
        lookup.namespace.cache_clear()

    def test_an_older_migraphx_lacks_what_came_later(self, monkeypatch):
        functions = capi.has
        monkeypatch.setattr(capi, "has", lambda name: "bf16" not in name and functions(name))
        lookup.namespace.cache_clear()
        with pytest.raises(AttributeError, match=r"has no .quantize_bf16.: it came with release 6\.4"):
            _ = iree_migraphx.quantize_bf16
        lookup.namespace.cache_clear()

    def test_names_are_listed_where_there_is_no_migraphx(self, monkeypatch):
        def missing():
            raise LibraryNotFoundError("libmigraphx_c.so.3 can't be loaded")

        lookup.namespace.cache_clear()
        monkeypatch.setattr(library, "load", missing)
        assert {"install", "compile", "Options"} <= set(dir(iree_migraphx))
        with pytest.raises(LibraryNotFoundError, match="can't be loaded"):
            _ = iree_migraphx.program
        lookup.namespace.cache_clear()

    def test_a_star_import_gives_what_there_is(self):
        names = {}
        exec("from iree_migraphx import *", names)
        assert {"program", "parse_onnx", "compile", "install", "shape"} <= set(names)
        assert not {"get_onnx_operators", "binding", "Any"} & set(names)

    @pytest.mark.parametrize("name", ["parse_onnx", "parse_onnx_buffer", "parse_tf", "load", "load_buffer"])
    def test_programs_come_with_a_compile_of_ours(self, name):
        function = getattr(iree_migraphx, name)
        assert inspect.signature(function) == inspect.signature(getattr(binding, name))
        assert function.__doc__ == getattr(binding, name).__doc__


def test_importing_loads_next_to_nothing():
    listing = "import sys, iree_migraphx; print(sorted(n for n in sys.modules if n.partition('.')[0] in found))"
    heavy = {"iree", "numpy", "ml_dtypes", "msgpack", "rich", "yaml", "ctypes", "platformdirs", "migraphx"}
    done = subprocess.run(
        [sys.executable, "-c", f"found = {heavy}; {listing}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
