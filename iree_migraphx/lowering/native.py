"""8-bit floats as matrix instructions of GPUs take them.

IREE uses such instructions where it sees MLIR's own types, and fuses padding only where the function's arguments have
them.
"""

from __future__ import annotations

from iree_migraphx.lowering.anchors import ANCHORS
from iree_migraphx.lowering.form import Form
from iree_migraphx.lowering.reshapers import RESHAPERS
from iree_migraphx.lowering.types import NATIVE
from iree_migraphx.partition.subgraph import Subgraph


def parameter_types(subgraph: Subgraph, form: Form) -> dict[str, str]:
    """The element type of each parameter, by id: `NATIVE` where only anchors read an 8-bit float that the form has."""
    users = subgraph.body.users()

    def only_anchors_read(value: str) -> bool:
        return all(i.name in ANCHORS or (i.name in RESHAPERS and only_anchors_read(i.id)) for i in users[value])

    types = {parameter.id: parameter.shape.type for parameter in subgraph.parameters}
    return {
        value: NATIVE[type_] if type_ in form.float8 and only_anchors_read(value) else type_
        for value, type_ in types.items()
    }
