from dataclasses import dataclass

import onnx
import onnxruntime
import pytest

from iree_migraphx import binding, pipeline

from . import sources


@dataclass
class Case:
    """A model, what IREE and MIGraphX make of it, and onnxruntime's opinion."""

    onnx: onnx.ModelProto
    program: binding.program
    session: onnxruntime.InferenceSession

    @property
    def report(self):
        return self.program.iree_report

    def nodes(self, *operators):
        """How many nodes of the graph are one of these."""
        return sum(node.op_type in operators for node in self.onnx.graph.node)

    def subgraphs(self, *anchors):
        return [subgraph for subgraph in self.report.subgraphs if subgraph.anchor in anchors]


@pytest.fixture(scope="session")
def case(kernel_options):
    """Models by name, each compiled once."""
    known = {}

    def of(name):
        if name not in known:
            onnx_model, lens = sources.MODELS[name]()
            data = onnx_model.SerializeToString()
            program = binding.parse_onnx_buffer(data, map_input_dims=lens)
            program = pipeline.compile(program, binding.get_target("ref"), options=kernel_options)
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            known[name] = Case(onnx_model, program, session)
        return known[name]

    return of
