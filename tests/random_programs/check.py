"""A batch of examples, computed by IREE and held against MIGraphX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from iree_migraphx.errors import MigraphxError, Reason, Refusal
from iree_migraphx.ir.model import Module, Program, Shape
from iree_migraphx.lowering import pointwise
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.reshapers import RESHAPERS
from iree_migraphx.lowering.types import PAIR
from iree_migraphx.partition.attention import attention_of
from iree_migraphx.partition.subgraph import Subgraph
from lowering.test_pointwise import spacing
from programs import on_ref, parameters
from random_programs import together
from random_programs.generate import Example, live
from random_programs.judge import ANCHORS, Step, fault
from random_programs.products import LARGEST_SCALE
from random_programs.values import made

#: Beside reductions, what adds up in an order that depends on the loops.
SUMS = {*ANCHORS, "softmax", "logsoftmax", "pooling"}
#: What the lowering may refuse.
REFUSED = {Reason.UNSUPPORTED_OPERATOR, Reason.UNSUPPORTED_LAYOUT, Reason.UNSUPPORTED_TYPE}


@dataclass(frozen=True)
class Finding:
    """An example that is not right, and what is wrong with it."""

    example: Example
    said: str


@dataclass
class Outcome:
    """What came of a batch.

    Attributes:
        right: examples whose results are right.
        looked_at: of them, those whose results had to be judged instruction by instruction.
        refused: what the lowering said of others.
        failed: what MIGraphX said of others yet, when it compiled them.
        rejected: others that iree-compile has an error for, or crashes at: they stay with MIGraphX.
        findings: what is wrong.
    """

    right: list[Example] = field(default_factory=list)
    looked_at: list[Example] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[Finding] = field(default_factory=list)
    rejected: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class _Lowered:
    example: Example
    subgraph: Subgraph
    function: together.Function
    inputs: Mapping[str, np.ndarray]


def whole(program: Program) -> Subgraph:
    """All of a program as one subgraph."""
    instructions, known = program.main.instructions, program.main.by_id()
    results = instructions[-1].inputs
    shapes = [known[value].shape for value in results]
    packed = tuple(s if s.packed else Shape.standard_of(s.type, s.lens) for s in shapes)
    members = tuple(i.id for i in instructions if not i.name.startswith("@"))
    operands = tuple(i.id for i in instructions if i.name == "@param")
    return Subgraph("whole", "dot", "main", members, operands, results, program.main, packed, "")


def inputs_of(example: Example) -> dict[str, np.ndarray]:
    return {name: made(shape, example.kinds[name]) for name, shape in parameters(example.program).items()}


def check(examples: Sequence[Example], own: bool = False) -> Outcome:
    """Compute examples both ways.

    Args:
        examples: in any forms.
        own: compile each as the product does, not several in one dispatch.
    """
    outcome = Outcome()
    lowered = [each for each in (_unless_refused(example, outcome) for example in examples) if each is not None]
    suspects = _suspects(_computed(lowered, outcome, own), outcome)
    wrong = _look_at(suspects, outcome, own)
    if wrong and not own:
        # IREE drops results of a dispatch that turn out to be equal: only what is wrong by itself counts.
        again = _suspects(_computed([each for each, _ in wrong], outcome, own=True), outcome)
        wrong = _look_at(again, outcome, own=True)
    outcome.findings += [Finding(each.example, said) for each, said in wrong]
    return outcome


def _suspects(
    computed: Sequence[tuple[_Lowered, list[np.ndarray]]], outcome: Outcome
) -> list[tuple[_Lowered, list[np.ndarray]]]:
    """What is not what MIGraphX computes; the others are right."""
    found = []
    for each, results in computed:
        try:
            expected = on_ref(each.example.program, each.inputs)
        except MigraphxError as error:
            outcome.failed.append(Finding(each.example, str(error)))
            continue
        if all(map(_near, results, expected)):
            outcome.right.append(each.example)
        else:
            found.append((each, results))
    return found


def _unless_refused(example: Example, outcome: Outcome) -> _Lowered | None:
    try:
        return _lowered(example, example.program)
    except Refusal as refusal:
        if refusal.reason in REFUSED:
            outcome.refused.append(str(refusal))
        else:
            outcome.findings.append(Finding(example, f"lowering: {refusal}"))
    except Exception as error:
        outcome.findings.append(Finding(example, f"lowering: {error!r}"))
    return None


def _lowered(example: Example, program: Program) -> _Lowered:
    subgraph = whole(program)
    return _Lowered(example, subgraph, together.function_of(subgraph, example.form), inputs_of(example))


def _computed(lowered: Sequence[_Lowered], outcome: Outcome, own: bool) -> list[tuple[_Lowered, list[np.ndarray]]]:
    """Results of all that IREE compiles, by itself and as the product does if need be; the others are rejected."""
    if not lowered:
        return []
    try:
        module = together.compiled([each.function for each in lowered], own)
        interfaces = [together.interface_of(each.subgraph) for each in lowered]
        results = together.run(module, interfaces, [each.inputs for each in lowered])
        return list(zip(lowered, results, strict=True))
    except together.CompileError as error:
        if len(lowered) > 1:
            half = len(lowered) // 2
            return _computed(lowered[:half], outcome, own) + _computed(lowered[half:], outcome, own)
        if not own:
            return _computed(lowered, outcome, own=True)
        outcome.rejected.append(Finding(lowered[0].example, str(error)))
        return []


def _near(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Equal, or floats that a rounding or two are between."""
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return False
    if actual.dtype == np.bool_:
        return actual.tobytes() == np.ascontiguousarray(expected).tobytes()
    with np.errstate(all="ignore"):
        same = (actual == expected) | ((actual != actual) & (expected != expected))
        if actual.dtype.kind in "iu" or same.all():
            return bool(same.all())
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        return bool((same | (np.abs(a - e) <= 2 * spacing(np.abs(e), actual.dtype))).all())


def _look_at(
    suspects: Sequence[tuple[_Lowered, list[np.ndarray]]], outcome: Outcome, own: bool
) -> list[tuple[_Lowered, str]]:
    """Compute programs once more, with every value as a result, and judge each instruction."""
    again, before, wrong = [], {}, []
    for each, results in suspects:
        before[id(each.example)] = each, results
        again.append(_lowered(each.example, _with_all_results(each.example.program)))
    for each, results in _computed(again, outcome, own):
        first, once = before[id(each.example)]
        try:
            said = _faults(each, results, once)
        except MigraphxError as error:
            outcome.failed.append(Finding(first.example, str(error)))
            continue
        if said is None:
            outcome.right.append(each.example)
            outcome.looked_at.append(each.example)
        else:
            wrong.append((first, said))
    return wrong


def _with_all_results(program: Program) -> Program:
    """The values that something is computed for, each once, as results."""
    known: dict[str, tuple[object, ...]] = {}
    results: dict[tuple[object, ...], str] = {}
    for i in program.main.instructions:
        if i.name == "@return":
            continue
        data = bytes(i.literal.data) if i.literal is not None else b""
        key = known[i.id] = (i.name, str(i.operator), data, *(known[value] for value in i.inputs))
        if not i.name.startswith("@") and i.name not in RESHAPERS and i.shape.type != PAIR:
            results.setdefault(key, i.id)
    body = [i for i in program.main.instructions if i.name != "@return"]
    last = program.main.instructions[-1]
    end = type(last)(last.id, "@return", last.shape, {}, tuple(results.values()) or last.inputs)
    return Program(program.version, program.migraphx_version, {"main": Module("main", live((*body, end)))})


def _faults(each: _Lowered, results: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> str | None:
    program = each.example.program
    values = dict(zip(each.subgraph.results, results, strict=True))
    for i in program.main.instructions:
        if i.name == "@param":
            values[i.id] = np.ascontiguousarray(each.inputs[i.operator["parameter"]])
    for i in program.main.instructions:
        if i.id not in values or i.name == "@param":
            continue
        given = {value: array for value, array in values.items() if value != i.id}
        said = fault(Step(program, i, given), values[i.id])
        if said is not None:
            return f"{i.id} {i.name}: {said}"
    if _beyond_attention(each, values):
        return None
    # What was computed the first time must be what now comes of these values.
    last = program.main.instructions[-1]
    for value, first in zip(last.inputs, before, strict=True):
        known = program.main.by_id()[value]
        if value in values:
            now = values[value]
        elif known.name in RESHAPERS:
            (now,) = Step(program, known, values).evaluate()
        else:  # equal to another value
            continue
        if not alike(first, now, _types_of_sums(program)):
            return f"{value} depends on what else is a result: {first.reshape(-1)[:8]} and {now.reshape(-1)[:8]}"
    return None


def _beyond_attention(each: _Lowered, values: Mapping[str, np.ndarray]) -> bool:
    """Whether there is an attention whose numbers IREE's operation for it makes NaN of (docs/facts.md).

    It multiplies queries by the scale and log2(e), in their own type, and adds a mask where MIGraphX selects.
    """
    program = each.example.program
    if each.example.form is Form.CHANNELS_LAST:
        return False
    known = program.main.by_id()
    for output in known.values():
        found = attention_of(output, known, pointwise.supports)
        if found is None or found.scores.id not in values:
            continue
        (q, _) = Step(program, found.scores, values).evaluate(operands=True)
        with np.errstate(all="ignore"):
            largest = float(ml_dtypes.finfo(q.dtype).max) / (1.5 * LARGEST_SCALE)
            if (np.abs(q.astype(np.float64)) > largest).any():
                return True
        if any(step.name == "where" for step in found.chain) and not np.isfinite(values[found.scores.id]).all():
            return True
    return False


def _types_of_sums(program: Program) -> list[np.dtype[Any]]:
    """Types of what adds up in any order; whatever is computed of it is as near as these are."""
    sums = (i for i in program.main.instructions if i.name in SUMS or i.name.startswith("reduce_"))
    return [i.shape.dtype for i in sums if i.shape.type != PAIR]


def alike(a: np.ndarray, b: np.ndarray, sums: Sequence[np.dtype[Any]]) -> bool:
    """Equal; where there are sums, whose order may change, most elements are near: others may be beyond a step."""
    with np.errstate(all="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        if same.all() or not sums:
            return bool(same.all())
        if a.dtype.kind in "iu":  # the bits of a float, maybe
            same |= np.abs(a.astype(np.float64) - b.astype(np.float64)) <= 64
        elif a.dtype.kind != "b":
            x, y = a.astype(np.float64), b.astype(np.float64)
            largest = np.full(x.shape, np.nanmax(np.where(np.isfinite(y), np.abs(y), 0.0)))
            floats = [each for each in (a.dtype, *sums) if each.kind not in "iub"]
            same |= np.abs(x - y) <= 64 * np.max([spacing(largest, each) for each in floats], axis=0)
        return bool(same.mean() >= 0.75)
