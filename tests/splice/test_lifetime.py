"""Programs, their kernels and their memory: who keeps what alive, and for how long."""

import gc
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper, numpy_helper

from iree_migraphx import binding, job
from iree_migraphx.errors import KernelError, MigraphxError
from iree_migraphx.splice import host
from iree_migraphx.splice.placeholder import Placeholder

from .models import X, assert_right, compiled, convolutions, expected, model


@pytest.fixture
def made(monkeypatch):
    """The placeholders that a test makes, held weakly."""
    found = weakref.WeakSet()

    class Watched(Placeholder):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            found.add(self)

    monkeypatch.setattr(host, "Placeholder", Watched)
    return found


def holding(placeholders):
    """How many still have their kernel."""
    gc.collect()
    return sum(placeholder._kernel is not None for placeholder in placeholders)


def test_kernels_are_released_with_the_program(kernel_options, made):
    program = compiled(convolutions(count=2), kernel_options)
    program.run({"x": X})
    assert holding(made) == 2
    del program
    assert holding(made) == 0


def test_a_result_outlives_its_program(kernel_options):
    onnx = convolutions()
    program = compiled(onnx, kernel_options)
    result = np.asarray(program.run({"x": X})[0])
    del program
    gc.collect()
    other = [compiled(convolutions(seed), kernel_options).run({"x": X}) for seed in (1, 2)]
    np.testing.assert_allclose(result, expected(onnx, {"x": X})[0], rtol=1e-4, atol=1e-5)
    assert len(other) == 2


def test_deleting_one_of_two_equal_programs_leaves_the_other(kernel_options, made):
    onnx = convolutions()
    first, second = compiled(onnx, kernel_options), compiled(onnx, kernel_options)
    del first
    gc.collect()
    assert_right(second, onnx, {"x": X})
    third = compiled(onnx, kernel_options)
    del second
    gc.collect()
    assert_right(third, onnx, {"x": X})
    del third
    assert holding(made) == 0


def test_a_model_can_be_compiled_again_after_its_program_is_gone(kernel_options):
    onnx = convolutions()
    for _ in range(3):
        program = compiled(onnx, kernel_options)
        assert program.iree_report.swapped == 1
        assert_right(program, onnx, {"x": X})
        del program
        gc.collect()


def test_equal_kernels_with_other_weights_keep_their_own(kernel_options):
    models = [convolutions(seed) for seed in range(3)]
    programs = [compiled(onnx, kernel_options) for onnx in models]
    assert len({program.iree_report.subgraphs[0].key for program in programs}) == 1
    for program, onnx in zip(programs, models, strict=True):
        assert_right(program, onnx, {"x": X})


def test_equal_subgraphs_of_one_program_share_a_kernel(kernel_options, made):
    onnx = convolutions(count=5)
    program = compiled(onnx, kernel_options)
    # The first takes a row-major image, the last one gives it back; between them it is channels-last.
    assert program.iree_report.distinct == 3
    assert len({id(placeholder._kernel) for placeholder in made}) == 3
    assert_right(program, onnx, {"x": X})


def test_a_layer_used_twice_is_one_placeholder_used_twice(kernel_options):
    weights = [numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32), "w")]
    nodes = [helper.make_node("MatMul", [value, "w"], [f"{value}1"]) for value in ("x", "x1")]
    onnx = model(nodes, {"x": (3, 4)}, ["x11"], weights)
    program = compiled(onnx, kernel_options)
    assert program.iree_report.swapped == 2
    assert_right(program, onnx, {"x": X[0, 0, :3, :4].copy()})


def test_a_compiled_program_is_saved_and_loaded_in_the_same_process(kernel_options, tmp_path):
    onnx = convolutions(count=2)
    program = compiled(onnx, kernel_options)
    binding.save(program, tmp_path / "program.mxr")
    copy = binding.load(tmp_path / "program.mxr")
    assert copy.is_compiled()
    assert_right(copy, onnx, {"x": X})
    del program
    gc.collect()
    assert_right(copy, onnx, {"x": X})


def test_a_saved_program_whose_kernels_are_gone_says_so_and_works_once_they_are_back(kernel_options):
    onnx = convolutions(seed=11)
    program = compiled(onnx, kernel_options)
    saved = binding.save_buffer(program)
    del program
    gc.collect()
    copy = binding.load_buffer(saved)
    with pytest.raises(MigraphxError, match="released; compile the model again") as caught:
        copy.run({"x": X})
    assert isinstance(caught.value.__cause__, KernelError)
    again = compiled(onnx, kernel_options)
    assert_right(copy, onnx, {"x": X})
    del again
    gc.collect()
    assert_right(copy, onnx, {"x": X})


def test_kernels_are_released_when_nothing_comes_of_the_program(kernel_options, made, monkeypatch):
    def refuse(self, *arguments):
        monkeypatch.undo()
        raise MigraphxError("no")

    monkeypatch.setattr(binding.program, "compile", refuse)
    monkeypatch.setattr(job, "evaluate_with_ref", lambda data: pytest.fail("nothing to fold"))
    program = compiled(convolutions(seed=12), kernel_options)
    assert program.iree_report.swapped == 0
    assert holding(made) == 0


def test_kernels_are_released_when_the_splice_fails_half_way(kernel_options, made, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("half way")

    monkeypatch.setattr(host, "splice_all", fail)
    onnx = convolutions(seed=13)
    program = compiled(onnx, kernel_options)
    assert "half way" in program.iree_report.note
    assert_right(program, onnx, {"x": X})
    assert holding(made) == 0


def test_a_failed_compile_does_not_touch_an_equal_program(kernel_options, monkeypatch):
    onnx = convolutions(seed=14)
    program = compiled(onnx, kernel_options)
    with monkeypatch.context() as patch:
        patch.setattr(host, "remove_dead", lambda program: 1 / 0)
        assert compiled(onnx, kernel_options).iree_report.swapped == 0
    assert_right(program, onnx, {"x": X})


def test_an_equal_program_that_comes_and_goes_during_a_compile(kernel_options, monkeypatch):
    """After the kernels were registered and before MIGraphX has loaded the program, as another thread may do it."""
    onnx, real = convolutions(seed=15), job.write_program

    def write(program):
        monkeypatch.setattr(job, "write_program", real)
        compiled(onnx, kernel_options)
        gc.collect()
        return real(program)

    monkeypatch.setattr(job, "write_program", write)
    program = compiled(onnx, kernel_options)
    assert job.write_program is real
    assert_right(program, onnx, {"x": X})


def test_thousands_of_runs_with_new_inputs_and_collections(kernel_options):
    """Each result is checked after later runs have reused whatever memory they could."""
    onnx = convolutions(count=2)
    program = compiled(onnx, kernel_options)
    inputs = [X * factor for factor in (1.0, -1.0, 0.5)]
    wanted = [expected(onnx, {"x": value})[0] for value in inputs]
    kept = []
    for number in range(2000):
        which = number % 3
        kept.append((which, program.run({"x": inputs[which].copy()})[0]))
        if number % 250 == 249:
            gc.collect()
            for which, result in kept:
                np.testing.assert_allclose(np.asarray(result), wanted[which], rtol=1e-4, atol=1e-5)
            kept.clear()


def test_threads_run_one_program_and_several_programs(kernel_options):
    models = [convolutions(count=2), convolutions(seed=1, count=2), convolutions(seed=2)]
    programs = [compiled(onnx, kernel_options) for onnx in models]
    wanted = [expected(onnx, {"x": X})[0] for onnx in models]

    def work(number):
        which = number % 3
        for _ in range(100):
            actual = np.asarray(programs[which].run({"x": X})[0])
            np.testing.assert_allclose(actual, wanted[which], rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_threads_compile_run_and_drop_the_same_models(kernel_options):
    models = [convolutions(seed) for seed in (0, 1)]
    wanted = [expected(onnx, {"x": X})[0] for onnx in models]
    for onnx in models:
        compiled(onnx, kernel_options)  # the cache has the kernels from here on
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        for turn in range(15):
            which = (number + turn) % 2
            program = compiled(models[which], kernel_options)
            assert program.iree_report.swapped == 1
            actual = np.asarray(program.run({"x": X})[0])
            np.testing.assert_allclose(actual, wanted[which], rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("last", ["", "del program", "import os; os._exit(0)", "raise SystemExit(0)"])
def test_a_process_ends_cleanly(kernel_options, tmp_path, last):
    (tmp_path / "m.onnx").write_bytes(convolutions())
    script = f"""
        import pathlib, threading
        import numpy as np
        import iree_migraphx as migraphx
        options = migraphx.Options(cache_dir=pathlib.Path({str(kernel_options.cache_dir)!r}), quiet=True)
        program = migraphx.parse_onnx({str(tmp_path / "m.onnx")!r})
        program = migraphx.compile(program, migraphx.get_target("ref"), options=options)
        x = np.ones((1, 4, 12, 12), np.float32)
        results = program.run({{"x": x}})
        threading.Thread(target=lambda program=program: [program.run({{"x": x}}) for _ in range(50)]).start()
        print(program.iree_report.swapped, flush=True)
        {last}
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")
