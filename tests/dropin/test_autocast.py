import ml_dtypes
import numpy as np
import pytest

from iree_migraphx.dropin import own
from iree_migraphx.errors import MigraphxError

X = np.float32([[1, 2, 3], [-4, 0.3, 100]])


def program(kind):
    made = own.program()
    main = made.get_main_module()
    x = main.add_parameter("x", own.shape(type=kind, lens=[2, 3], strides=[1, 2]))
    y = main.add_parameter("y", own.shape(lens=[2, 3]))
    twice = main.add_instruction(own.op("add"), [x, x])
    wide = main.add_instruction(own.op("convert", target_type=int(own.shape.type_t.float_type)), [twice])
    main.add_return([twice, main.add_instruction(own.op("add"), [wide, y]), x])
    return made


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_8_bit_floats_stay_inside(name):
    dtype = getattr(ml_dtypes, name)
    given = program(name.replace("float8_", "fp8") + "_type")
    main = given.get_main_module()
    own.autocast_fp8(given)
    assert {name: shape.type_string() for name, shape in given.get_parameter_shapes().items()} == {
        "x": "float_type",
        "y": "float_type",
    }
    assert given.get_parameter_shapes()["x"].strides() == [1, 2]
    assert [shape.type_string() for shape in given.get_output_shapes()] == ["float_type"] * 3
    twice, total, same = (np.asarray(each) for each in given.run({"x": X, "y": X}))
    narrow = X.astype(dtype)
    expected = (narrow + narrow).astype(np.float32)
    np.testing.assert_array_equal(same, narrow.astype(np.float32))
    np.testing.assert_array_equal(twice, expected)
    np.testing.assert_array_equal(total, expected + X)
    assert sum(each.name() == "convert" for each in main) == 4


def test_other_programs_stay_as_they_are():
    given = program("half_type")
    own.autocast_fp8(given)
    assert given == program("half_type")


def test_a_compiled_program_is_refused():
    given = program("half_type")
    given.compile(own.get_target("ref"))
    with pytest.raises(MigraphxError, match="compiled already"):
        own.autocast_fp8(given)
