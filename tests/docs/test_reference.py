"""docs/ says what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from iree_migraphx.errors import Reason
from iree_migraphx.logs import STAGES
from iree_migraphx.report import FORMAT, KernelResources, Node, Report, SubgraphReport

DOCS = Path(__file__).resolve().parents[2] / "docs"


def table(file: str, heading: str = "") -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    text = (DOCS / file).read_text(encoding="utf-8")
    if heading:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]
    return {row[0]: row[1:] for row in cells}


def test_every_reason_is_explained() -> None:
    rows = table("reasons.md")
    assert list(rows) == [reason.value for reason in Reason]
    for reason in Reason:
        meaning, advice = rows[reason.value]
        assert meaning == reason.description
        assert advice


def example() -> dict[str, object]:
    kernel = KernelResources("kernel", *range(1, len(dataclasses.fields(KernelResources))))
    subgraph = SubgraphReport("name", "dot", ("dot",), ("1x2 float",), "1x2 float", "key", "iree", kernel=kernel)
    return Report("ref", "host", (subgraph,), graph=(Node("a", "name", "1x2 float"),)).to_json()


def part(heading: str) -> object:
    report = example()
    (subgraph,) = report["subgraphs"]  # type: ignore[misc]
    parts = {"Report": report, "summary": report["summary"], "subgraphs": subgraph, "kernel": subgraph["kernel"]}
    return {**parts, "graph": report["graph"][0]}[heading]  # type: ignore[index]


@pytest.mark.parametrize("heading", ["Report", "summary", "subgraphs", "kernel", "graph"])
def test_every_key_of_a_report_is_documented(heading: str) -> None:
    given = part(heading)
    assert isinstance(given, dict)
    rows = table("report.md", heading)
    assert list(rows) == list(given)
    types = {
        "string": str, "boolean": bool, "integer": int, "number": float, "object": dict, "list": list, str(FORMAT): int,
    }  # fmt: skip
    for key, (kind, _) in rows.items():
        value = given[key]
        allowed = tuple(types[name] for name in re.sub(r" of strings| or null", "", kind).split())
        assert isinstance(value, allowed) or ("or null" in kind and value is None), key


def test_the_stages_are_those_of_the_pipeline() -> None:
    source = (DOCS.parent / "iree_migraphx" / "job.py").read_text(encoding="utf-8")
    stages = re.findall(r'\.stage\("(\w+)"\)', source)
    assert stages
    documented = table("report.md", "Report")["seconds"][1]
    for stage in stages:
        assert re.search(rf"\b{stage}\b", documented), stage


def test_every_folder_of_the_package_is_explained() -> None:
    folders = {path.parent.name for path in (DOCS.parent / "iree_migraphx").glob("*/__init__.py")}
    assert {name.strip("`/") for name in table("architecture.md")} >= folders


def test_links() -> None:
    for file in DOCS.glob("*.md"):
        for link in re.findall(r"\]\((?!https)([^)#]+)", file.read_text(encoding="utf-8")):
            assert (DOCS / link).exists(), (file.name, link)


def test_the_stages_that_log_are_in_the_table() -> None:
    assert table("debugging.md", "IREE_DEBUG").items() >= {stage: [text] for stage, text in STAGES.items()}.items()
