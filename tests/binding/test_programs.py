import numpy as np
import onnxruntime
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.errors import InputError, MigraphxError, TargetError
from tests.binding.models import built, compiled, convolution, parsed, relu


def test_computes_what_onnxruntime_does():
    model = convolution()
    x = np.random.default_rng(1).standard_normal((1, 4, 6, 6), np.float32)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    (result,) = compiled(model).run({"x": x})
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-4, atol=1e-4)


def test_what_a_program_says_of_itself():
    program = parsed(convolution())
    assert program.get_parameter_names() == ["x"]
    assert program.get_parameter_shapes() == {"x": mx.shape(lens=[1, 4, 6, 6])}
    assert [each.lens() for each in program.get_output_shapes()] == [[1, 6, 6, 5]]
    assert not program.is_compiled()
    program.compile(mx.get_target("ref"))
    assert program.is_compiled()
    assert repr(program).startswith('module: "main"')
    assert "ref::dot" in repr(program)


def test_several_results():
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=[3]))
    main.add_return([main.add_instruction(mx.op("neg"), [x]), x, main.add_literal(np.int64([7]))])
    program.compile(mx.get_target("ref"))
    assert [each.tolist() for each in program.run({"x": np.float32([1, 2, 3])})] == [[-1, -2, -3], [1, 2, 3], [7]]


def test_compile_options_are_handed_over():
    program = parsed(relu())
    program.compile(mx.get_target("ref"), offload_copy=False, fast_math=False, exhaustive_tune=True)
    assert program.run({"x": -np.ones((2, 3), np.float32)})[0].tolist() == [0] * 6


def test_results_can_be_written_to():
    (result,) = compiled(relu()).run({"x": np.ones((2, 3), np.float32)})
    np.asarray(result)[0, 0] = 7
    assert result.tolist() == [7, 1, 1, 1, 1, 1]


def test_equality_is_of_instructions():
    assert parsed(relu()) == parsed(relu())
    assert parsed(relu()) != parsed(relu((2, 4)))
    assert parsed(relu()) != "a program"


def test_an_uncompiled_program_runs_where_it_can():
    assert parsed(relu()).run({"x": np.ones((2, 3), np.float32)})[0].tolist() == [1] * 6


def test_failing_run_raises_migraphx_s_text():
    program = mx.program()
    main = program.get_main_module()
    main.add_return([main.add_instruction(mx.op("softmax", axis=0), [main.add_parameter("x", mx.shape(lens=[3]))])])
    with pytest.raises(MigraphxError, match=r"can't run the program: .*softmax"):
        program.run({"x": np.ones(3, np.float32)})


def test_compile_takes_a_target():
    with pytest.raises(TypeError, match="takes a target of get_target, not 'ref'"):
        parsed(relu()).compile("ref")


def test_compiled_twice():
    program = compiled(relu())
    with pytest.raises(MigraphxError, match="compiled already"):
        program.compile(mx.get_target("ref"))


def test_nothing_to_compile_or_run():
    with pytest.raises(InputError, match="no instructions"):
        mx.program().compile(mx.get_target("ref"))
    with pytest.raises(InputError, match="no instructions"):
        mx.program().run({})


def test_run_async_runs():
    (result,) = compiled(relu()).run_async({"x": -np.ones((2, 3), np.float32)}, 0, "ihipStream_t")
    assert result.tolist() == [0] * 6


def test_sorted_program_computes_the_same():
    program = parsed(convolution())
    program.sort()
    program.compile(mx.get_target("ref"))
    x = np.ones((1, 4, 6, 6), np.float32)
    assert program.run({"x": x})[0] == compiled(convolution()).run({"x": x})[0]


def test_copy_is_a_program_of_its_own():
    program = parsed(relu())
    copy = program.copy()
    program.compile(mx.get_target("ref"))
    assert (copy.is_compiled(), program.copy().is_compiled()) == (False, True)
    assert copy == parsed(relu())
    (result,) = program.copy().run({"x": -np.ones((2, 3), np.float32)})
    assert result.tolist() == [0] * 6


def test_unknown_target():
    with pytest.raises(TargetError, match=r"no target 'rfe' \(did you mean 'ref'\?\); it has ref"):
        mx.get_target("rfe")


def test_target_whose_libraries_are_missing(monkeypatch):
    monkeypatch.setattr("iree_migraphx.binding.library._TARGETS", ("ref", "onnx"))  # a library, but not a target
    with pytest.raises(TargetError, match=r"can't load its target 'onnx': .*not everything it needs"):
        mx.get_target("onnx")


def test_target_says_its_name():
    assert repr(mx.get_target("ref")) == "target('ref')"


def test_version_is_the_library_s():
    major, minor, *_ = mx.__version__.split(".")
    assert (int(major), int(minor)) >= (2, 8)
    with pytest.raises(AttributeError, match="nonsense"):
        mx.nonsense  # noqa: B018


def test_pooling_enum_prints_as_the_official_one():
    assert str(mx.op.pooling_mode.max) == "pooling_mode.max"
    pool = built("pooling", [mx.shape(lens=[1, 1, 2, 2])], mode=mx.op.pooling_mode.max, lengths=[2, 2])
    assert pool.run({"x0": np.float32([[[[1, 2], [3, 4]]]])})[0].tolist() == [4]
