"""Building programs instruction by instruction, and reading the instructions of a program.

The C interface can add instructions but tells nothing about one: what is asked of an instruction is answered from how
it was added, or from the serialized program.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from iree_migraphx.binding import capi, messages, serialized
from iree_migraphx.binding.arguments import argument
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.datatypes import NamedNumber, dynamic_dimension
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import InputError, MigraphxError

if TYPE_CHECKING:
    from iree_migraphx.binding.programs import program

_Shape = shape


class op:  # noqa: N801 -- the official name
    """An operator with its fields, as op("transpose", permutation=[1, 0]).

    Args:
        name: the operator's name in MIGraphX.
        fields: bools, whole numbers, floats, strings, dynamic dimensions, and lists of them.

    Raises:
        MigraphxError: no such operator or field.
        InputError: a field with a value of another kind.
    """

    __slots__ = ("_fields", "_handle", "_name")

    class pooling_mode(NamedNumber):  # noqa: N801, D106
        average = 0
        max = 1
        lpnorm = 2

    class rnn_direction(NamedNumber):  # noqa: N801, D106
        forward = 0
        reverse = 1
        bidirectional = 2

    def __init__(self, name: str, **fields: Any) -> None:
        self._name = name
        self._fields: Mapping[str, Any] = {key: _plain(value, f"{name}.{key}") for key, value in fields.items()}
        self._handle: Handle | None = self._make()

    @classmethod
    def read(cls, name: str, fields: Mapping[str, Any]) -> op:
        """The operator of an instruction in a serialized program."""
        self = cls.__new__(cls)
        self._name, self._fields, self._handle = name, fields, None
        return self

    @property
    def handle(self) -> Handle:
        """The operator of the C interface."""
        if self._handle is None:
            self._handle = self._make()
        return self._handle

    def name(self) -> str:
        """The operator's name."""
        return self._name

    def values(self) -> dict[str, Any]:
        """The fields: all of an instruction that was read, those given of one that was made here.

        The C interface does not tell MIGraphX's defaults for the others.
        """
        return dict(self._fields)

    def __repr__(self) -> str:
        return f"{self._name}[{','.join(f'{key}={value}' for key, value in self._fields.items())}]"

    def _make(self) -> Handle:
        text = (
            json.dumps(self._fields).replace("%", "%%").encode() if self._fields else None
        )  # C runs it through printf
        doing = f"make the operator {self._name!r}"
        return capi.new("operation", "operation_create", self._name.encode(), text, doing=doing)


class instruction_ref:  # noqa: N801 -- the official name
    """An instruction: one added to a module, or one read from it by iterating over it."""

    __slots__ = ("_inputs", "_literal", "_op", "_outputs", "_shape", "era", "handle", "module")

    def __init__(
        self,
        module: module,
        handle: Handle | None,
        operator: op,
        inputs: Sequence[instruction_ref] = (),
        of: _Shape | None = None,
        literal: argument | None = None,
    ) -> None:
        self.module, self.handle, self.era = module, handle, module.era
        self._op, self._inputs, self._shape, self._literal = operator, tuple(inputs), of, literal
        self._outputs: list[instruction_ref] = []
        for each in self._inputs:
            each._outputs.append(self)

    def name(self) -> str:
        """The operator's name; "@param", "@literal" and "@return" are special."""
        return self._op.name()

    def op(self) -> op:
        """The operator with its fields."""
        return self._op

    def inputs(self) -> list[instruction_ref]:
        """The instructions whose results it reads."""
        return list(self._inputs)

    def outputs(self) -> list[instruction_ref]:
        """The instructions that read its result, as far as they were added or read together with it."""
        return list(self._outputs)

    def shape(self) -> _Shape:
        """The result's shape.

        Raises:
            MigraphxError: it was added with submodules, of whose results the C interface tells nothing.
        """
        if self._shape is None:
            self._shape = _result_shape(self._op, [each.shape() for each in self._inputs])
        return self._shape

    def get_literal(self) -> argument:
        """The value of a literal.

        Raises:
            MigraphxError: it is none.
        """
        if self._literal is None:
            raise MigraphxError(f"{self.name()} is no literal")
        return self._literal

    def __repr__(self) -> str:
        return f"instruction_ref({self._op})"


class module:  # noqa: N801 -- the official name
    """A module of a program, which it keeps alive."""

    __slots__ = ("_name", "_parameters", "_pointer", "_program", "era")

    def __init__(self, owner: program, pointer: int, name: str) -> None:
        self._program, self._pointer, self._name = owner, pointer, name
        self._parameters: set[str] = set()
        self.era = owner.era

    @property
    def pointer(self) -> int:
        """The module of the C interface.

        Raises:
            InputError: the program was compiled, quantized or sorted since; only its main module surely exists still.
        """
        if self.era != self._program.era:
            if self._name != "main":
                raise InputError(f"module {self._name!r} is from before the program was compiled or quantized")
            self._pointer = capi.borrow("program_get_main_module", self._program.handle)
            self.era = self._program.era
        return self._pointer

    def add_instruction(
        self, op: op, args: Sequence[instruction_ref], mod_args: Sequence[module] = ()
    ) -> instruction_ref:
        """Add an instruction at the end.

        Args:
            op: its operator.
            args: instructions that were added to this module, or to one that it is a submodule of.
            mod_args: submodules, made with program.create_module.

        Raises:
            MigraphxError: the operator does not take these arguments.
            InputError: an argument that belongs to another program or was not added but read.
        """
        doing = f"add {op.name()}"
        if op.name().startswith("@"):
            raise InputError(f"can't {doing}: parameters, literals and returns have their own functions")
        inputs = self._instructions(args, doing)
        if not mod_args:
            handle = self._add(doing, "module_add_instruction", op.handle, inputs)
            return instruction_ref(self, handle, op, args)
        pointers = (ctypes.c_void_p * len(mod_args))(*(each.pointer for each in mod_args))
        modules = capi.new("modules", "modules_create", pointers, len(mod_args))
        handle = self._add(doing, "module_add_instruction_with_mod_args", op.handle, inputs, modules)
        return instruction_ref(self, handle, op, args)

    def add_literal(self, data: Any) -> instruction_ref:
        """Add a constant from an argument or from what numpy can see as an array; its bytes are copied."""
        value = data if isinstance(data, argument) else argument(np.array(data))
        own = value.get_shape()
        handle = self._add("add a literal", "module_add_literal", own.handle(), value.data_ptr())
        return instruction_ref(self, handle, op.read("@literal", {}), of=own, literal=value)

    def add_parameter(self, name: str, shape: _Shape) -> instruction_ref:
        """Add a parameter.

        Raises:
            InputError: the module has a parameter of that name already.
        """
        if name in self._parameters or (self._name == "main" and name in self._program.get_parameter_shapes()):
            raise InputError(f"module {self._name!r} has a parameter {name!r} already")
        handle = self._add(f"add the parameter {name!r}", "module_add_parameter", name.encode(), shape.handle())
        self._parameters.add(name)
        return instruction_ref(self, handle, op.read("@param", {"parameter": name}), of=shape)

    def add_return(self, args: Sequence[instruction_ref]) -> instruction_ref:
        """Add the end of the module: what it returns."""
        doing = "add the return"
        handle = self._add(doing, "module_add_return", self._instructions(args, doing))
        return instruction_ref(self, handle, op.read("@return", {}), args)

    def replace_return(self, args: Sequence[instruction_ref]) -> NoReturn:
        """Not in the C interface.

        Raises:
            MigraphxError: always.
        """
        raise MigraphxError("MIGraphX's C interface can't replace a module's return; only ROCm's Python module can")

    def print(self) -> None:
        """Print the module on stdout."""
        print(repr(self))

    def __repr__(self) -> str:
        with messages.capture(1) as captured:
            capi.call("module_print", self.pointer)
        return captured.text.removesuffix("\n")

    def __iter__(self) -> Iterator[instruction_ref]:
        """The instructions as they are now, in order. They can be asked, but not be used to add others."""
        found: dict[str, instruction_ref] = {}
        modules = serialized.nodes(serialized.save(self._program.handle))
        for name, nodes in modules.items():  # a submodule's instructions may read those of the module around it
            owner = self if name == self._name else module(self._program, 0, name)  # only named, never used
            for node in nodes:
                found[node["output"]] = _read(owner, node, found)
        return iter([found[node["output"]] for node in modules[self._name]])

    def _add(self, doing: str, function: str, *arguments: Any) -> Handle:
        handle = capi.new("instruction", function, self.pointer, *arguments, doing=doing)
        self._program.changed()
        return handle

    def _instructions(self, args: Sequence[instruction_ref], doing: str) -> Handle:
        handles = []
        for index, each in enumerate(args):
            problem = (
                "was read from a program, not added to one"
                if each.handle is None
                else "belongs to another program"
                if each.module._program is not self._program
                else "is from before the program was compiled or quantized"
                if each.era != self._program.era
                else ""
            )
            if problem or each.handle is None:
                raise InputError(f"can't {doing}: argument {index} ({each.name()}) {problem}")
            handles.append(each.handle)
        return capi.new("instructions", "instructions_create", capi.handles(handles), len(handles))


def _plain(value: Any, where: str) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, dynamic_dimension):
        return {"min": value.min, "max": value.max, "optimals": sorted(value.optimals)}
    if hasattr(value, "__index__"):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(each, where) for each in value]
    raise InputError(f"the field {where} can't be {value!r}: fields are bools, numbers, strings and lists of them")


def _read(owner: module, node: Mapping[str, Any], found: Mapping[str, instruction_ref]) -> instruction_ref:
    own = shape.from_value(node["shape"])
    value = None
    if "literal" in node:
        data = node["literal"]["data"]
        memory = np.frombuffer(data if isinstance(data, bytes) else b"".join(data), np.uint8)
        handle = capi.new("argument", "argument_create", own.handle(), memory.ctypes.data)
        value = argument.wrap(handle, keep=memory, of=own, writeable=False)
    inputs = [found[each] for each in node["inputs"]]
    return instruction_ref(owner, None, op.read(node["name"], node["operator"] or {}), inputs, own, value)


def _result_shape(operator: op, inputs: Sequence[_Shape]) -> _Shape:
    """What MIGraphX computes for an operator: the result of a program of just that."""
    scratch = capi.new("program", "program_create")
    main = capi.borrow("program_get_main_module", scratch)
    parameters = [
        capi.new("instruction", "module_add_parameter", main, f"x{index}".encode(), each.handle())
        for index, each in enumerate(inputs)
    ]
    arguments = capi.new("instructions", "instructions_create", capi.handles(parameters), len(parameters))
    doing = f"tell the shape of {operator.name()}"
    result = capi.new("instruction", "module_add_instruction", main, operator.handle, arguments, doing=doing)
    capi.new(
        "instruction",
        "module_add_return",
        main,
        capi.new("instructions", "instructions_create", capi.handles([result]), 1),
    )
    shapes = capi.new("shapes", "program_get_output_shapes", scratch)
    return shape.from_pointer(capi.borrow("shapes_get", shapes, 0))
