import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.errors import InputError, MigraphxError
from tests.binding.models import compiled, convolution, parsed, relu

X = mx.shape(lens=[2, 3])


@pytest.fixture
def program():
    """neg(transpose(x)) dot a literal, without a return; and its instructions."""
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", X)
    t = main.add_instruction(mx.op("transpose", permutation=[1, 0]), [x])
    w = main.add_literal(np.float32([[1, 2], [3, 4]]))
    return program, main, x, t, w


def test_built_program_computes(program):
    program, main, _, t, w = program
    main.add_return([main.add_instruction(mx.op("dot"), [t, w])])
    program.compile(mx.get_target("ref"))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (result,) = program.run({"x": x})
    np.testing.assert_array_equal(np.asarray(result), x.T @ np.float32([[1, 2], [3, 4]]))


def test_added_instructions_tell_what_they_are(program):
    _, main, x, t, w = program
    d = main.add_instruction(mx.op("dot"), [t, w])
    assert [each.name() for each in (x, t, w, d)] == ["@param", "transpose", "@literal", "dot"]
    assert t.op().values() == {"permutation": [1, 0]}
    assert (t.inputs(), t.outputs(), w.outputs()) == ([x], [d], [d])
    assert [each.shape() for each in (x, t, d)] == [X, mx.shape(lens=[3, 2], strides=[1, 3]), mx.shape(lens=[3, 2])]
    assert w.get_literal().tolist() == [1, 2, 3, 4]
    with pytest.raises(MigraphxError, match="transpose is no literal"):
        t.get_literal()
    assert t != d
    assert len({x, t, w, d, x}) == 4


def test_iterating_reads_the_program(program):
    program, main, _, t, w = program
    main.add_return([main.add_instruction(mx.op("dot"), [t, w])])
    found = {each.name(): each for each in main}
    assert set(found) == {"@param", "@literal", "transpose", "dot", "@return"}
    assert found["dot"].inputs() == [found["transpose"], found["@literal"]]
    assert found["dot"].outputs() == [found["@return"]]
    assert found["dot"].shape() == mx.shape(lens=[3, 2])
    assert found["transpose"].op().values() == {"permutation": [1, 0]}
    assert found["@literal"].get_literal().tolist() == [1, 2, 3, 4]


def test_iterating_reads_parsed_and_compiled_programs():
    assert [each.name() for each in parsed(convolution()).get_main_module()][-1] == "@return"
    assert "ref::dot" in [each.name() for each in compiled(convolution()).get_main_module()]


def test_operators_of_read_instructions_can_be_added_elsewhere():
    (transpose,) = [each for each in parsed(convolution()).get_main_module() if each.name() == "transpose"]
    program = mx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", mx.shape(lens=[1, 2, 3, 4]))
    assert main.add_instruction(transpose.op(), [x]).shape().lens() == [1, 3, 4, 2]


def test_submodules():
    program = mx.program()
    main = program.get_main_module()
    condition = main.add_parameter("c", mx.shape(type="bool", lens=[1]))
    x = main.add_parameter("x", X)
    bodies = []
    for name in ("neg", "abs"):
        body = program.create_module(name)
        body.add_return([body.add_instruction(mx.op(name), [x])])
        bodies.append(body)
    choice = main.add_instruction(mx.op("if"), [condition], bodies)
    main.add_return([main.add_instruction(mx.op("get_tuple_elem", index=0), [choice])])
    assert [each.name() for each in bodies[0]] == ["neg", "@return"]
    assert "neg" in repr(bodies[0])
    program.compile(mx.get_target("ref"))
    for value in (True, False):
        (result,) = program.run({"c": np.array([value]), "x": np.full((2, 3), -2, np.float32)})
        assert result.tolist() == [2] * 6
    with pytest.raises(InputError, match="module 'neg' is from before the program was compiled"):
        bodies[0].add_instruction(mx.op("neg"), [])


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("nope", {}, "Operator not found: nope"),
        ("transpose", {"permutatn": [1]}, "No key 'permutatn' in transpose"),
    ],
)
def test_operators_that_migraphx_refuses(name, fields, message):
    with pytest.raises(MigraphxError, match=message):
        mx.op(name, **fields)


def test_field_of_another_kind():
    with pytest.raises(InputError, match=r"the field transpose\.permutation can't be"):
        mx.op("transpose", permutation={1, 0})


def fields_of(operator, *inputs):
    """An operator's fields as MIGraphX has them."""
    main = mx.program().get_main_module()
    parameters = [main.add_parameter(f"x{index}", each) for index, each in enumerate(inputs)]
    main.add_instruction(operator, parameters)
    return next(each for each in main if each.name() == operator.name()).op().values()


def test_fields_of_every_kind_arrive():
    values = fields_of(mx.op("pad", pads=(1, 0, np.int64(0), 2), value=-1.5, mode=0), X)
    assert (values["pads"], values["value"]) == ([1, 0, 0, 2], -1.5)
    dynamic = mx.dynamic_dimension(1, 4, {2})
    values = fields_of(mx.op("multibroadcast", out_dyn_dims=[dynamic, mx.dynamic_dimension(3, 3)]), *[X] * 2)
    assert values["out_dyn_dims"][0] == {"min": 1, "max": 4, "optimals": [2]}
    assert fields_of(mx.op("scan_slice", axis=0, direction=0), mx.shape(lens=[4]), mx.shape(type="int64_t", lens=[1]))
    assert fields_of(mx.op("topk", k=2, axis=1, largest=False), X)["largest"] == 0


@pytest.mark.parametrize("text", ["plain", "100%d %s", 'a "quoted" \\ text'])
def test_texts_survive_c_s_formatting(text):
    image, boxes, index = mx.shape(lens=[1, 1, 4, 4]), mx.shape(lens=[1, 4]), mx.shape(type="int64_t", lens=[1])
    name = "coordinate_transformation_mode"
    assert fields_of(mx.op("roialign", **{name: text}), image, boxes, index)[name] == text


def test_literals_of_any_memory():
    main = mx.program().get_main_module()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for value in (array.T, array[::-1], mx.argument(array), np.float32(1), np.zeros((0, 2), np.float32)):
        literal = main.add_literal(value)
        np.testing.assert_array_equal(np.asarray(literal.get_literal()).reshape(-1), np.asarray(value).reshape(-1))


def test_literal_keeps_what_it_was_given():
    main = mx.program().get_main_module()
    array = np.ones(2, np.float32)
    literal = main.add_literal(array)
    array[:] = 5
    assert literal.get_literal().tolist() == [1, 1]


def test_wrong_arguments(program):
    _, main, x, _, _ = program
    with pytest.raises(MigraphxError, match=r"MIGraphX can't add add: .*"):
        main.add_instruction(mx.op("add"), [x])
    with pytest.raises(InputError, match=r"argument 0 \(@param\) belongs to another program"):
        mx.program().get_main_module().add_instruction(mx.op("neg"), [x])
    with pytest.raises(InputError, match=r"argument 0 \(\S+\) was read from a program, not added"):
        main.add_instruction(mx.op("neg"), [next(iter(main))])
    with pytest.raises(InputError, match="module 'main' has a parameter 'x' already"):
        main.add_parameter("x", X)
    with pytest.raises(InputError, match="can't add @return"):
        main.add_instruction(mx.op("@return"), [x])
    with pytest.raises(MigraphxError, match="can't replace"):
        main.replace_return([x])


def test_parameter_of_a_parsed_program_counts_too():
    with pytest.raises(InputError, match="has a parameter 'x' already"):
        parsed(relu()).get_main_module().add_parameter("x", X)


def test_module_of_a_loaded_program_counts_too():
    program = mx.program()
    body = program.create_module("body")
    body.add_return([body.add_literal(np.float32([1]))])
    main = program.get_main_module()
    condition = main.add_parameter("c", mx.shape(type="bool", lens=[1]))
    other = program.create_module("other")
    other.add_return([other.add_literal(np.float32([1]))])
    main.add_return([main.add_instruction(mx.op("if"), [condition], [body, other])])
    loaded = mx.load_buffer(mx.save_buffer(program))
    for name in ("body", "main"):
        with pytest.raises(InputError, match=f"has a module '{name}' already"):
            loaded.create_module(name)


def test_instructions_from_before_a_compile_are_void(program):
    program, main, x, t, _ = program
    main.add_return([t])
    program.compile(mx.get_target("ref"))
    with pytest.raises(InputError, match=r"argument 0 \(@param\) is from before the program was compiled"):
        main.add_instruction(mx.op("neg"), [x])
    assert "@return" in repr(main)


def test_shape_of_an_instruction_with_submodules_is_not_guessed(program):
    program, main, *_ = program
    condition = main.add_parameter("c", mx.shape(type="bool", lens=[1]))
    body = program.create_module("body")
    body.add_return([body.add_literal(np.float32([1]))])
    with pytest.raises(MigraphxError, match="shape of if"):
        main.add_instruction(mx.op("if"), [condition], [body, body]).shape()


def test_module_prints(program, capsys):
    _, main, *_ = program
    main.print()
    assert "transpose[permutation={1, 0}](x)" in capsys.readouterr().out
