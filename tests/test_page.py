"""The page of a report: self-contained, whole, and safe against what a report may hold."""

import json
import re

from iree_migraphx import binding, pipeline
from iree_migraphx.errors import Reason
from iree_migraphx.page import page
from iree_migraphx.report import KernelResources, Node, Report, SubgraphReport
from splice.models import convolutions


def data_of(text):
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)
    return json.loads(data)


def report(note=""):
    kernel = KernelResources("k", 4, 256, 1024, 32, 0, 20, 0, 64)
    subgraph = SubgraphReport("dot_1", "dot", ("dot",), ("2x2 half",), "2x2 half", "abc", "iree", kernel=kernel)
    left = SubgraphReport("dot_2", "dot", ("dot",), (), "2x2 half", "d", "migraphx", Reason.TIMEOUT, "more than 1 s")
    nodes = (Node("x", "@param x", "2x2 half"), Node("@1", "dot_1", "2x2 half", ("x",), "main", True))
    return Report("gpu", "gfx942", (subgraph, left), note=note, graph=nodes)


def test_it_holds_the_reports_and_needs_no_network():
    text = page([report(), report("another")])
    assert data_of(text) == [report().to_json(), report("another").to_json()]
    assert not re.search(r"""(src|href)\s*=|@import|url\(|fetch\(|XMLHttpRequest""", text)
    assert set(re.findall(r"https?://[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}


def test_nothing_in_a_report_gets_out_of_its_place():
    hostile = "</script><script>alert(1)</script><!-- /*REPORTS*/ \u2028"
    text = page([report(hostile)])
    assert text.count("</script>") == 2
    assert data_of(text)[0]["note"] == hostile
    # What is shown goes in as text, never as markup.
    assert "innerHTML" not in text


def test_every_id_that_the_script_uses_is_there():
    text = page([report()])
    assert set(re.findall(r'\$\("([\w-]+)"\)', text)) <= set(re.findall(r'id="([\w-]+)"', text))


def test_the_form_follows_the_files_name(tmp_path):
    for suffix in ("html", "txt", "json"):
        report().save(tmp_path / f"report.{suffix}")
    assert data_of((tmp_path / "report.html").read_text()) == [report().to_json()]
    assert json.loads((tmp_path / "report.json").read_text()) == report().to_json()
    text = (tmp_path / "report.txt").read_text()
    assert text.startswith("iree_migraphx: 1 of 2 subgraphs on IREE")
    assert "timeout: more than 1 s" in text


def test_the_graph_is_the_program(kernel_options):
    program = pipeline.compile(
        binding.parse_onnx_buffer(convolutions(count=2)), binding.get_target("ref"), options=kernel_options
    )
    graph = program.iree_report.graph
    names = [(node.name, node.subgraph) for node in graph]
    assert names == [("@param x", False), ("convolution_add_relu_1", True), ("convolution_add_relu_2", True),
                     ("@return", False)]  # fmt: skip
    assert [node.inputs for node in graph] == [(), (graph[0].id,), (graph[1].id,), (graph[2].id,)]
    assert {node.shape for node in graph[:3]} == {"1x4x12x12 float"}


def test_the_table_without_rich(monkeypatch):
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "rich" else known(name, *more))
    header, first, second = report().as_text().splitlines()
    assert header.split() == ["count", "operators", "output", "computed", "by", "kernel", "/", "why", "not"]
    assert first.endswith("4 x 256, 1024 B lds, 32 vgpr 20 sgpr")
    assert second.index("migraphx") == first.index("iree")
