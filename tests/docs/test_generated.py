"""The pages and the schema that are generated are those of the code, and real reports have the schema's form."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from iree_migraphx import binding, pipeline
from iree_migraphx.lowering.anchors import ANCHORS
from iree_migraphx.lowering.emit import TENSOR_OPERATORS
from iree_migraphx.lowering.types import TYPES
from iree_migraphx.options import Options
from iree_migraphx.schema import attributes, report_schema
from iree_migraphx.study import preview
from splice.models import convolutions

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))


def test_the_pages_are_in_step() -> None:
    import generate

    for name, text in generate.pages().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"{name} is old: python docs/generate.py"


def test_every_operator_was_compiled_for_every_gpu() -> None:
    import operator_table
    from operator_kinds import KINDS
    from operators_on_gpus import GPUS, cases

    without = {*ANCHORS, *TENSOR_OPERATORS} - {kind.operator for kind in KINDS.values()}
    assert not without, "each wants a row in benchmarks/operator_kinds.py"
    known = operator_table.read(operator_table.ON_GPUS)
    missing = [(gpu, *case) for case in cases((), list(TYPES)) for gpu in GPUS if (gpu, *case) not in known]
    assert not missing, f"not known of GPUs: {operator_table.COMMAND}"


def problems(value: Any, schema: dict[str, Any], whole: dict[str, Any], where: str = "") -> list[str]:
    """What is wrong with a value by the part of JSON Schema that is used here; an unknown word is an error."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#").removeprefix("/$defs/")
        return problems(value, whole["$defs"][name] if name else whole, whole, where)
    if "anyOf" in schema:
        several = [problems(value, each, whole, where) for each in schema["anyOf"]]
        return min(several, key=len)
    if "const" in schema:
        return [] if value == schema["const"] else [f"{where} is {value!r}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where} is {value!r}"]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    kind = schema["type"]
    fits = value is None if kind == "null" else isinstance(value, kinds[kind])
    if not fits or (isinstance(value, bool) and kind != "boolean"):
        return [f"{where} is {value!r}, not {kind}"]
    if kind == "array":
        return [p for n, each in enumerate(value) for p in problems(each, schema["items"], whole, f"{where}[{n}]")]
    if kind != "object":
        return []
    found = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, each in value.items():
        inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        found += problems(each, inner, whole, f"{where}.{name}") if inner else [f"{where}.{name} is not in the schema"]
    return found


@pytest.fixture(scope="module")
def parsed() -> binding.program:
    return binding.parse_onnx_buffer(convolutions(count=2))


def test_real_reports_have_the_form(parsed: binding.program, kernel_options: Options, tmp_path: Path) -> None:
    ref = binding.get_target("ref")
    fresh = Options(cache_dir=tmp_path, quiet=True)
    reports = [
        pipeline.compile(parsed, ref, options=fresh).iree_report,
        pipeline.compile(parsed, ref, options=Options(disable=True, quiet=True)).iree_report,
        pipeline.compile(parsed, ref, options=Options(timeout=0.01, cache=False, quiet=True)).iree_report,
        pipeline.check(parsed, "gfx942", kernel_options),
        preview(parsed, ref, options=Options(cache_dir=tmp_path / "none", quiet=True)),
    ]
    schema = report_schema()
    for report in reports:
        assert report is not None
        assert problems(json.loads(json.dumps(report.to_json())), schema, schema, "report") == []
    compiled = reports[0]
    assert compiled is not None
    first = compiled.subgraphs[0]
    assert first.worker == 0
    assert first.started is not None
    assert 0 < first.started < sum(compiled.seconds.values())


def test_what_has_not_the_form_is_noticed(parsed: binding.program, kernel_options: Options) -> None:
    schema = report_schema()
    value = pipeline.check(parsed, "gfx942", kernel_options).to_json()
    value["subgraphs"][0]["reason"] = "no such reason"
    del value["arch"]
    value["graph"][0]["colour"] = "red"
    value["checked_only"] = 1
    assert len(problems(value, schema, schema)) == 4


def test_every_attribute_is_described() -> None:
    schema = report_schema()
    for name, part in {"Report": schema, **schema["$defs"]}.items():
        for field, value in part["properties"].items():
            if name != "KernelResources":
                assert value.get("description"), (name, field)
    assert set(attributes(Options)) == set(Options.__dataclass_fields__)
