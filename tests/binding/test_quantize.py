import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.errors import InputError, MigraphxError
from tests.binding.models import compiled, convolution, parsed

X = np.random.default_rng(2).standard_normal((1, 4, 6, 6), np.float32)


def types(program):
    return {each.name(): each.shape().type_string() for each in program.get_main_module()}


def result_of(program):
    program.compile(mx.get_target("ref"))
    return np.asarray(program.run({"x": X})[0])


@pytest.fixture(scope="module")
def exact():
    return np.asarray(compiled(convolution()).run({"x": X})[0])


@pytest.mark.parametrize(
    "quantize, kind, tolerance", [(mx.quantize_fp16, "half_type", 0.05), (mx.quantize_bf16, "bf16_type", 0.5)]
)
def test_narrow_floats(exact, quantize, kind, tolerance):
    program = parsed(convolution())
    quantize(program)
    assert types(program)["convolution"] == types(program)["dot"] == kind
    np.testing.assert_allclose(result_of(program), exact, atol=tolerance, rtol=0.02)


def test_only_the_operators_named():
    program = parsed(convolution())
    mx.quantize_fp16(program, ["dot"])
    assert (types(program)["convolution"], types(program)["dot"]) == ("float_type", "half_type")


def test_int8(exact):
    program = parsed(convolution())
    mx.quantize_int8(program, mx.get_target("ref"), calibration=[{"x": X}, {"x": X.copy(order="F")}])
    assert {"quantizelinear", "dequantizelinear"} <= set(types(program))
    difference = np.abs(result_of(program) - exact).max()
    assert 0 < difference < 0.1 * np.abs(exact).max()


def test_int8_of_other_operators():
    with pytest.raises(MigraphxError, match=r"can't quantize to int8: .*only support DOT and CONVOLUTION"):
        mx.quantize_int8(parsed(convolution()), mx.get_target("ref"), [{"x": X}], ["relu"])


def test_fp8(exact):
    program = parsed(convolution())
    mx.quantize_fp8(program, mx.get_target("ref"), calibration=[{"x": mx.argument(X)}])
    assert any(kind.startswith("fp8") for kind in types(program).values())
    assert np.abs(result_of(program) - exact).max() < 0.2 * np.abs(exact).max()


@pytest.mark.parametrize("quantize", [mx.quantize_int8, mx.quantize_fp8])
def test_calibration_is_checked(quantize):
    with pytest.raises(InputError, match="no value given for 'x'"):
        quantize(parsed(convolution()), mx.get_target("ref"), [{"y": X}])
    with pytest.raises(InputError, match="'x' takes float32"):
        quantize(parsed(convolution()), mx.get_target("ref"), [{"x": X.astype(np.float64)}])


def test_too_late():
    program = compiled(convolution())
    with pytest.raises(MigraphxError, match="can't quantize to fp16: the program is compiled already"):
        mx.quantize_fp16(program)
    with pytest.raises(MigraphxError, match="can't quantize to int8: the program is compiled already"):
        mx.quantize_int8(program, mx.get_target("ref"))


def test_instructions_from_before_are_void():
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=[2, 3]))
    mx.quantize_fp16(program)
    with pytest.raises(InputError, match="from before the program was compiled or quantized"):
        main.add_instruction(mx.op("neg"), [x])
