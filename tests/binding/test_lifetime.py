"""Memory: what results point at stays alive, and nothing is kept for ever."""

import gc
import threading

import numpy as np

import iree_migraphx.binding as mx
from tests.binding.models import compiled, convolution, relu

LENS = [64, 1024]


def churn():
    """Overwrite memory that was freed."""
    gc.collect()
    for _ in range(20):
        np.full(LENS, -7, np.float32)
        mx.fill_argument(mx.shape(lens=LENS), -7)


def passing_through():
    """A compiled program that returns x, a literal and a view of each."""
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=LENS))
    literal = main.add_literal(np.ones(LENS, np.float32))
    views = [main.add_instruction(mx.op("slice", axes=[0], starts=[32], ends=[64]), [each]) for each in (x, literal)]
    main.add_return([x, literal, *views])
    program.compile(mx.get_target("ref"))
    return program


def test_results_outlive_program_and_inputs():
    program = passing_through()
    results = program.run({"x": np.full(LENS, 5, np.float32)})
    strided = program.run({"x": np.full(LENS[::-1], 5, np.float32).T})  # copied for the run
    arrays = [np.asarray(each) for each in [*results, *strided]]
    del program, results, strided
    churn()
    for array, expected in zip(arrays, [5, 1, 5, 1] * 2, strict=True):
        assert np.all(array == expected)


def test_computed_results_outlive_the_program():
    program = compiled(relu(LENS))
    arrays = [np.asarray(program.run({"x": np.full(LENS, n, np.float32)})[0]) for n in range(5)]
    del program
    churn()
    assert [set(np.unique(array)) for array in arrays] == [{0}, {1}, {2}, {3}, {4}]


def test_an_input_is_kept_only_by_results_that_are_views_of_it():
    class Input(np.ndarray):
        alive = 0

        def __del__(self):
            if self.base is None:
                Input.alive -= 1

    def run(program):
        value = np.ndarray.__new__(Input, LENS, np.float32)
        Input.alive = 1
        return program.run({"x": value})

    kept = run(passing_through())
    churn()
    assert Input.alive == 1
    del kept
    gc.collect()
    assert Input.alive == 0
    computed = run(compiled(relu(LENS)))
    gc.collect()
    assert Input.alive == 0
    del computed


def test_arguments_as_inputs_stay_alive_too():
    (result, *_) = passing_through().run({"x": mx.argument(np.full(LENS, 3, np.float32))})
    churn()
    assert np.all(np.asarray(result) == 3)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_nothing_is_kept_for_ever():
    program, through = compiled(relu(LENS)), passing_through()
    data = mx.save_buffer(through)
    x = np.ones(LENS, np.float32)

    def work(times):
        for _ in range(times):
            program.run({"x": x})
            through.run({"x": x.T.copy().T})
            mx.load_buffer(data).get_parameter_shapes()
            mx.argument(x)
        gc.collect()

    work(20)
    before = resident()
    work(200)  # 256 KB a value: hundreds of MB if kept
    assert resident() - before < 30e6


def test_collecting_garbage_all_the_time():
    model = convolution()
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)
    expected = compiled(model).run({"x": x})[0]
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(3):
            program = compiled(model)
            assert [each.name() for each in program.get_main_module()][-1] == "@return"
            assert program.run({"x": x})[0] == expected
            assert mx.load_buffer(mx.save_buffer(program)).run({"x": x})[0] == expected
    finally:
        gc.set_threshold(*threshold)


def test_programs_made_and_dropped_in_threads():
    model = convolution()
    x = np.ones((1, 4, 6, 6), np.float32)
    expected = compiled(model).run({"x": x})[0]
    wrong = []

    def work():
        for _ in range(5):
            program = mx.load_buffer(mx.save_buffer(compiled(model)))
            if program.run({"x": x})[0] != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
