"""The JSON Schema of a report, made of the dataclasses and their docstrings."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from typing import Any

from iree_migraphx.report import FORMAT, Report

_SIMPLE = {str: "string", bool: "boolean", int: "integer", float: "number"}
_COUNTS = {
    "eligible": "subgraphs that IREE might compute",
    "distinct": "kernels that serve all of them: equal subgraphs share one",
    "iree": "subgraphs that IREE computes (could compute, of a check)",
    "migraphx": "subgraphs that are left to MIGraphX",
    "undecided": "of a dry run: those that would be compiled",
}


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `Report.to_json()`; `checks` is what commands add for several devices."""
    definitions: dict[str, Any] = {}
    main = _object(Report, definitions)
    counts = {name: {"type": "integer", "minimum": 0, "description": text} for name, text in _COUNTS.items()}
    own = {
        "format": {"const": FORMAT, "description": "version of this form"},
        "summary": {"type": "object", "properties": counts, "required": list(counts), "description": "counts"},
    }
    main["properties"] = {**own, **main["properties"]}
    main["required"] = [*own, *main["required"]]
    main["properties"]["checks"] = {
        "type": "array",
        "items": {"$ref": "#"},
        "description": "reports of further devices, where a command was given several",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "iree_migraphx report",
        **main,
        "$defs": definitions,
    }


def attributes(of: type) -> dict[str, str]:
    """What a docstring says of each attribute."""
    text = (of.__doc__ or "").partition("Attributes:")[2]
    found = re.findall(r"^ {8}(\w+): (.*?)(?=^ {8}\w+: |\Z|^ {0,7}\S)", text, re.M | re.S)
    return {name: " ".join(words.split()) for name, words in found}


def _object(of: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, texts = typing.get_type_hints(of), attributes(of)
    properties = {}
    for field in dataclasses.fields(of):
        properties[field.name] = _value(hints[field.name], definitions)
        if field.name in texts:
            properties[field.name]["description"] = texts[field.name]
    return {"type": "object", "properties": properties, "required": list(properties)}


def _value(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        parts = [{"type": "null"} if each is type(None) else _value(each, definitions) for each in arguments]
        return {"anyOf": parts}
    if origin is tuple:
        return {"type": "array", "items": _value(arguments[0], definitions)}
    if origin is dict:
        # A time that is not finite would be null.
        return {"type": "object", "additionalProperties": _value(arguments[1], definitions)}
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    return {"type": _SIMPLE[kind]}
