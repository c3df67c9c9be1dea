import ctypes
import gc
import itertools
import subprocess
import sys
import threading
import time

import msgpack
import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.binding import custom_op
from iree_migraphx.errors import InputError, MigraphxError
from tests.binding.models import parsed, relu

X = np.arange(6, dtype=np.float32).reshape(2, 3)
_numbers = itertools.count()


class Op:
    """result = factor * (sum of the inputs), for float inputs that are standard."""

    runs_on_offload_target = False
    scratch_bytes = 0

    def __init__(self, factor=1, alias=()):
        self.name = f"test::op{next(_numbers)}"
        self.factor, self.alias = factor, alias
        self.computed = self.releases = self.asked = 0
        self.pointers = None

    def output_alias(self, inputs):
        return self.alias

    def compute_shape(self, inputs):
        self.asked += 1
        if not all(each.standard() for each in inputs):
            raise ValueError("only standard inputs")
        return mx.shape(type=inputs[0].type_string(), lens=inputs[0].lens())

    def compute(self, pointers, output):
        self.computed += 1
        self.pointers = (tuple(pointers), output)
        total = sum(floats(pointer) for pointer in pointers[: len(pointers) - len(self.alias)])
        floats(output)[:] = self.factor * total

    def released(self):
        self.releases += 1


def floats(address):
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (6,))


def registered(op):
    mx.register_custom_op(op)
    return op


def program_of(*ops, inputs=1, compiled=True):
    """ops, one after the other; further inputs are y1, y2, ..."""
    program = mx.program()
    main = program.get_main_module()
    value = main.add_parameter("x", mx.shape(lens=[2, 3]))
    others = [main.add_parameter(f"y{index}", mx.shape(lens=[2, 3])) for index in range(1, inputs)]
    for op in ops:
        value = main.add_instruction(mx.op(op.name), [value, *others])
    main.add_return([value])
    if compiled:
        program.compile(mx.get_target("ref"))
    return program


def test_several_operators_compute():
    twice, thrice = registered(Op(2)), registered(Op(3))
    program = program_of(twice, thrice, twice)
    (result,) = program.run({"x": X})
    np.testing.assert_array_equal(np.asarray(result), 12 * X)
    assert (twice.computed, thrice.computed) == (2, 1)


def test_inputs_come_in_order_and_without_a_copy():
    op = registered(Op())
    y = X + 1
    (result,) = program_of(op, inputs=2).run({"x": X, "y1": y})
    assert op.pointers == ((X.ctypes.data, y.ctypes.data), result.data_ptr())
    np.testing.assert_array_equal(np.asarray(result), X + y)


def test_output_alias_gives_the_input_s_memory():
    op = registered(Op(5, alias=(1,)))
    program = program_of(op, inputs=2)
    buffer = np.zeros((2, 3), np.float32)
    (result,) = program.run({"x": X, "y1": buffer})
    assert op.pointers == ((X.ctypes.data, buffer.ctypes.data), buffer.ctypes.data)
    assert result.data_ptr() == buffer.ctypes.data
    np.testing.assert_array_equal(buffer, 5 * X)


def test_output_alias_of_another_shape():
    op = registered(Op(alias=(1,)))
    program = mx.program()
    main = program.get_main_module()
    inputs = [main.add_parameter(name, mx.shape(lens=[n])) for name, n in (("x", 6), ("y", 7))]
    main.add_return([main.add_instruction(mx.op(op.name), inputs)])
    program.compile(mx.get_target("ref"))
    message = r"is float_type, \{6\}, \{1\}, but the input whose memory it takes is float_type, \{7\}, \{1\}"
    with pytest.raises(MigraphxError, match=message):
        program.run({"x": np.zeros(6, np.float32), "y": np.zeros(7, np.float32)})


def test_garbage_collected_while_operators_are_registered():
    """A program that goes away inside register_custom_op is counted by the same thread."""
    ops = [registered(Op()) for _ in range(20)]
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for op in ops:
            program = program_of(op)
            cycle = [program]
            cycle.append(cycle)
            before = op.releases
            del program, cycle
            mx.register_custom_op(op)
            gc.collect()
            assert op.releases == before + 1
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("alias", [(0, 1), (2,), (-1,)])
def test_impossible_output_alias(alias):
    op = registered(Op(alias=alias))
    with pytest.raises(MigraphxError, match="may name one of its 2 inputs") as error:
        program_of(op, inputs=2).run({"x": X, "y1": X.copy()})
    assert isinstance(error.value.__cause__, InputError)


def test_operator_in_a_serialized_program():
    op = registered(Op(2))
    value = msgpack.unpackb(mx.save_buffer(parsed(relu())))
    value["modules"]["main"]["nodes"][1]["name"] = op.name
    program = mx.load_buffer(msgpack.packb(value))
    program.compile(mx.get_target("ref"))
    loaded = mx.load_buffer(mx.save_buffer(program))
    np.testing.assert_array_equal(np.asarray(loaded.run({"x": X})[0]), 2 * X)


def test_refused_layout_gets_a_contiguous():
    op = registered(Op())
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=[3, 2]))
    t = main.add_instruction(mx.op("transpose", permutation=[1, 0]), [x])
    with pytest.raises(MigraphxError, match="only standard inputs") as error:
        main.add_instruction(mx.op(op.name), [t])
    assert isinstance(error.value.__cause__, ValueError)
    c = main.add_instruction(mx.op("contiguous"), [t])
    main.add_return([main.add_instruction(mx.op(op.name), [c])])
    program.compile(mx.get_target("ref"))
    np.testing.assert_array_equal(np.asarray(program.run({"x": X.T.copy()})[0]), X)


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, MemoryError])
def test_exception_of_compute_is_the_cause(kind):
    op = registered(Op())
    program = program_of(op)
    raised = kind("because")

    def compute(pointers, output):
        raise raised

    op.compute = compute
    with pytest.raises(MigraphxError, match=f"can't run the program: {kind.__name__}: .*because") as error:
        program.run({"x": X})
    assert error.value.__cause__ is raised
    del op.compute
    np.testing.assert_array_equal(np.asarray(program.run({"x": X})[0]), X)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_go_on_as_they_are(kind):
    op = registered(Op())
    program = program_of(op)

    def compute(pointers, output):
        raise kind

    op.compute = compute
    with pytest.raises(kind):
        program.run({"x": X})


@pytest.mark.parametrize("text", ["x" * 1000, "ü" * 400, "nul \0 inside", ""])
def test_text_of_any_length(text):
    op = registered(Op())
    program = program_of(op, compiled=False)

    def output_alias(inputs):
        raise RuntimeError(text)

    op.output_alias = output_alias
    with pytest.raises(MigraphxError) as error:
        program.compile(mx.get_target("ref"))
        program.run({"x": X})
    assert isinstance(error.value.__cause__, RuntimeError)
    assert str(error.value.__cause__) == text


def test_a_probe_that_was_refused_is_not_the_cause_of_another_failure():
    """Compiling asks for the shapes once more; what the operator said to an earlier call is not told again."""
    op = registered(Op())
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=[2, 3], strides=[1, 2]))
    with pytest.raises(MigraphxError, match="only standard inputs"):
        main.add_instruction(mx.op(op.name), [x])
    with pytest.raises(MigraphxError, match="Operator not found: nope") as error:
        mx.op("nope")
    assert error.value.__cause__ is None


def test_shape_that_is_no_shape():
    op = registered(Op())
    op.compute_shape = lambda inputs: None
    with pytest.raises(MigraphxError, match="NoneType") as error:
        program_of(op)
    assert isinstance(error.value.__cause__, AttributeError)


def test_tuples_are_refused():
    op = registered(Op())
    program = mx.program()
    main = program.get_main_module()
    topk = main.add_instruction(mx.op("topk", k=1, axis=0), [main.add_parameter("x", mx.shape(lens=[3]))])
    with pytest.raises(MigraphxError, match=f"{op.name} can't take a tuple"):
        main.add_instruction(mx.op(op.name), [topk])


def test_releases_are_told():
    op = registered(Op())
    program = program_of(op)
    other = mx.load_buffer(mx.save_buffer(program))
    before = op.releases
    del program
    gc.collect()
    other.run({"x": X})
    assert op.releases == before
    del other
    gc.collect()
    assert op.releases == before + 1


def test_nothing_is_released_that_somebody_holds():
    first, second = Op(), Op()
    second.name = first.name
    mx.register_custom_op(first, hold=True)
    assert first.releases == 0
    mx.register_custom_op(second, hold=True)
    program = program_of(second)
    custom_op.let_go(first.name)
    del program
    gc.collect()
    assert second.releases == 0  # the other one wants to load a program with it
    program = program_of(second)
    custom_op.let_go(first.name)
    assert second.releases == 0
    del program
    gc.collect()
    assert (first.releases, second.releases) == (0, 1)


def test_what_was_only_held_is_released_when_let_go():
    op = Op()
    mx.register_custom_op(op, hold=True)
    custom_op.let_go(op.name)
    assert op.releases == 1


def test_exception_of_released_does_not_reach_c(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_value))
    op = registered(Op())
    program = program_of(op)

    def released():
        raise RuntimeError("in released")

    op.released = released
    del program
    gc.collect()
    assert "in released" in {str(each) for each in seen}


def test_registering_a_name_again_replaces_the_object():
    op = registered(Op(2))
    program = program_of(op)
    new = Op(7)
    new.name = op.name
    mx.register_custom_op(new)
    np.testing.assert_array_equal(np.asarray(program.run({"x": X})[0]), 7 * X)
    assert (op.computed, new.computed) == (0, 1)
    before = new.releases
    del program
    gc.collect()
    assert (op.releases, new.releases) == (op.releases, before + 1)


@pytest.mark.parametrize("name", ["", "relu", "@param", "ref::dot"])
def test_names_of_migraphx_s_own_operators_are_taken(name):
    mx.get_target("ref")
    op = Op()
    op.name = name
    with pytest.raises(InputError, match=f"'{name}' can't name a custom operator"):
        mx.register_custom_op(op)


def test_runs_in_threads_are_parallel():
    """Each compute waits for the other thread's: one lock around the runs, and they would wait for ever."""
    op = registered(Op())
    program = program_of(op)
    barrier = threading.Barrier(2, timeout=20)
    op.compute = lambda pointers, output: barrier.wait()
    failures = []

    def run():
        try:
            program.run({"x": X})
        except MigraphxError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_runs_go_on_while_another_thread_compiles():
    op, slow = registered(Op()), registered(Op())
    program, waiting = program_of(op), program_of(slow, compiled=False)
    inside, done = threading.Event(), threading.Event()

    def output_alias(inputs):
        inside.set()
        assert done.wait(20)
        return ()

    slow.output_alias = output_alias
    custom_op._registered[custom_op._tokens[slow.name]].aliases.clear()
    thread = threading.Thread(target=lambda: (waiting.compile(mx.get_target("ref")), waiting.run({"x": X})))
    thread.start()
    assert inside.wait(20)
    program.run({"x": X})
    done.set()
    thread.join()


def test_many_threads_get_their_own_results():
    program = program_of(registered(Op(2)), registered(Op(3)))
    wrong = []

    def run(seed):
        x = np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32)
        results = [program.run({"x": x})[0] for _ in range(200)]
        expected = np.float32(3) * (np.float32(2) * x)
        wrong.extend(seed for each in results if not np.array_equal(np.asarray(each), expected))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_exceptions_in_threads_reach_their_own_run():
    op = registered(Op())
    program = program_of(op)

    def compute(pointers, output):
        raise RuntimeError(int(floats(pointers[0])[0]))

    op.compute = compute
    wrong = []

    def run(number):
        for _ in range(30):
            with pytest.raises(MigraphxError) as error:
                program.run({"x": np.full((2, 3), number, np.float32)})
            if error.value.__cause__.args != (number,):
                wrong.append(error.value.__cause__)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shapes_are_remembered():
    op = registered(Op())
    program = program_of(op)
    op.asked = 0
    for _ in range(5):
        program.run({"x": X})
    assert op.asked == 0


def test_overhead_of_a_call():
    """15 µs is the aim; the limit leaves room for a busy machine."""
    op = registered(Op())
    op.compute = lambda pointers, output: None
    few, many = program_of(op), program_of(*[op] * 51)

    def best(program):
        times = []
        for _ in range(100):
            start = time.perf_counter()
            program.run({"x": X})
            times.append(time.perf_counter() - start)
        return min(times)

    assert (best(many) - best(few)) / 50 < 60e-6


def test_process_ends_in_peace():
    """C++ destroys MIGraphX's table of operators after Python is gone."""
    script = """
import sys
import numpy as np
from tests.binding.test_custom_op import Op, program_of, registered
op = registered(Op())
program = program_of(op)
sys.kept = program, program.run({"x": np.ones((2, 3), np.float32)})
op.released = lambda: print("released")
print("end")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "end\n", "")
