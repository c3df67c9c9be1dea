"""Checks of a serialized program or argument before MIGraphX reads it.

MIGraphX's reader (src/program.cpp, src/shape.cpp, src/serialize.cpp) trusts its input: where a name is missing, two
lists don't match or a blob is too short, it ends the process on an assertion or reads beyond the blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from iree_migraphx.binding.datatypes import FP4, TUPLE, TYPES
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import FormatError

_BUILTIN = {"@param", "@literal", "@return"}


def check_program(value: Any, version: int) -> None:
    """Check the structure of a program.

    Args:
        value: the msgpack or JSON document.
        version: the version of the file format that the MIGraphX at hand reads.

    Raises:
        FormatError: it is no program, of another version, or damaged; the message says where.
    """
    if not isinstance(value, dict) or not isinstance(value.get("version"), int):
        _refuse("it is not a program of MIGraphX's")
    if value["version"] != version:
        _refuse(
            f"it has version {value['version']} of the file format, and this MIGraphX reads version {version} only; "
            "parse the model again"
        )
    if not isinstance(value.get("migraphx_version"), str):
        _refuse("it does not say which MIGraphX wrote it")
    targets, contexts = value.get("targets"), value.get("contexts")
    if not isinstance(targets, list) or not all(isinstance(_get(each, "name"), str) for each in targets):
        _refuse("its targets are damaged")
    if targets and (not isinstance(contexts, list) or len(contexts) < len(targets)):
        _refuse("it is compiled, but the contexts of its targets are missing")
    modules = value.get("modules")
    if not isinstance(modules, dict) or "main" not in modules or "" in modules:
        _refuse("it has no main module")
    _Modules(modules).check("main")


def check_argument(value: Any, where: str = "the argument") -> None:
    """Check a value that argument.save wrote: {shape, data}, or {shape, sub} for a tuple.

    Raises:
        FormatError: it is none, or damaged.
    """
    if isinstance(_get(value, "sub"), list):
        for each in value["sub"]:
            check_argument(each, where)
        return
    if not isinstance(value, dict) or "data" not in value:
        _refuse(f"{where} has no data")
    _check_shape(value.get("shape"), where)
    own = shape.from_value(value["shape"])
    if own.dynamic() or own.type_string() == TUPLE:
        _refuse(f"{where} has a shape that no single value can have: {own}")
    size = _blob_size(value["data"])
    if size is None or size < own.bytes():
        _refuse(f"{where} has {size if size is not None else 'no'} bytes of data, and its shape needs {own.bytes()}")


class _Modules:
    """Walks the modules in the order in which MIGraphX fills them, with one table of names for all."""

    def __init__(self, modules: Mapping[str, Any]) -> None:
        self.modules = modules
        self.defined: set[str] = set()
        self.active: list[str] = []

    def check(self, name: str) -> None:
        module = self.modules[name]
        nodes = _get(module, "nodes")
        if not isinstance(module, dict) or "nodes" not in module or not isinstance(nodes, list | None):
            _refuse(f"module {name!r} has no list of nodes")
        self.active.append(name)
        for index, node in enumerate(nodes or ()):
            self._check_node(node, f"node {index} of module {name!r}")
        self.active.pop()

    def _check_node(self, node: Any, where: str) -> None:
        operator = _get(node, "name")
        if not isinstance(operator, str) or not isinstance(_get(node, "output"), str):
            _refuse(f"{where} has no name")
        where = f"{where} ({operator})"
        if operator.startswith("@") and operator not in _BUILTIN:
            _refuse(f"{where} is not an operator")
        if not isinstance(node.get("normalized"), bool):
            _refuse(f"{where} does not say whether it is normalized")
        fields = node.get("operator")
        if not isinstance(fields, dict) and fields != []:
            _refuse(f"{where} has no fields")
        _check_lists(node, where)
        if operator == "@param":
            if not isinstance(_get(fields, "parameter"), str):
                _refuse(f"{where} is a parameter without a name")
            _check_shape(node.get("shape"), where)
        elif operator == "@literal":
            check_argument(node.get("literal"), where)
        else:
            self._check_inputs(node, where)
        self.defined.add(node["output"])

    def _check_inputs(self, node: Mapping[str, Any], where: str) -> None:
        inputs, submodules = node.get("inputs"), node.get("module_inputs", [])
        if not isinstance(inputs, list) or not all(isinstance(each, str) for each in inputs):
            _refuse(f"{where} has no list of inputs")
        for each in inputs:
            if each not in self.defined:
                _refuse(f"{where} reads {each!r}, which nothing before it defines")
        if not isinstance(submodules, list):
            _refuse(f"{where} has no list of submodules")
        for each in submodules:
            if each not in self.modules or each in self.active:
                _refuse(f"{where} wants the submodule {each!r}, which does not exist or contains it")
            self.check(each)


def _check_shape(value: Any, where: str) -> None:
    kind = _get(value, "type")
    if kind == TUPLE:
        subs = _get(value, "sub_shapes")
        if not isinstance(subs, list):
            _refuse(f"{where} has a tuple's shape without members")
        for sub in subs:
            _check_shape(sub, where)
        return
    if kind not in TYPES and kind != FP4:
        _refuse(f"{where} has no element type that is known here: {kind!r}")
    lens, strides, dynamic = (_get(value, key) for key in ("lens", "strides", "dynamic_dimensions"))
    if not isinstance(dynamic, list) or not all(
        _naturals([_get(each, "min"), _get(each, "max")]) and _naturals(_get(each, "optimals")) for each in dynamic
    ):
        _refuse(f"{where} has damaged dynamic dimensions")
    if not dynamic and not (_naturals(lens) and _naturals(strides) and len(lens) == len(strides)):
        _refuse(f"{where} has lengths and strides that don't belong together: {lens}, {strides}")


def _check_lists(value: Any, where: str) -> None:
    """MIGraphX takes an entry without a key for a list's, and a list that starts with a blob for blobs only."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) and key for key in value):
            _refuse(f"{where} has a field without a name")
        for each in value.values():
            _check_lists(each, where)
    elif isinstance(value, list) and value and isinstance(value[0], bytes):
        if not all(isinstance(each, bytes) for each in value):
            _refuse(f"{where} has a damaged list")
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        for each in value:
            _check_lists(each, where)


def _blob_size(value: Any) -> int | None:
    """Bytes of a blob: one BIN, a list of BINs, or JSON's {"bytes": [numbers]}."""
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list) and all(isinstance(each, bytes) for each in value):
        return sum(map(len, value))
    numbers = _get(value, "bytes")
    return len(numbers) if isinstance(numbers, list) else None


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int and each >= 0 for each in values)


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _refuse(problem: str) -> NoReturn:
    raise FormatError(f"MIGraphX can't read this: {problem}")
