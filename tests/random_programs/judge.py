"""Whether what IREE computed is right, one instruction at a time.

What IREE gives for an instruction is held against what MIGraphX makes of the very operands that IREE had, in their own
type and in double. So errors do not pile up, a rounding that tips a comparison does not count, and the rule is the one
that single operators are tested by: twice MIGraphX's own error, and the steps of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np

from iree_migraphx.ir.model import DTYPES, Instruction, Literal, Module, Program, Shape
from iree_migraphx.lowering.conversion import GREATEST
from iree_migraphx.lowering.pointwise import POINTWISE
from iree_migraphx.lowering.types import TYPES, is_float, limits
from lowering.test_conversion import has_meaning
from lowering.test_pointwise import TABLE, check_floats, check_integers, spacing
from programs import on_ref

ANCHORS = {"dot", "quant_dot", "convolution", "quant_convolution", "convolution_backwards"}
#: Operators that only choose among elements.
EXACT = {
    *("concat", "gather", "gathernd", "pad", "reverse", "step", "pack_int4", "unpack_int4", "unpack_fp4", "pack_fp4"),
    *("where", "bit_cast", "reduce_all", "reduce_any", "reduce_max", "reduce_min", "argmax", "argmin"),
    *("broadcast", "contiguous", "flatten", "multibroadcast", "reshape", "slice", "squeeze", "transpose", "unsqueeze"),
    *("identity", "onehot", "scalar"),
    *(f"{name}_{way}" for name in ("scatter", "scatternd") for way in ("none", "max", "min")),
}
#: Operands that say places, by operator: their values stay as they are, and of some the type.
PLACES = {"roialign": (1, 2), **{f"{name}_{way}": (1,) for name in ("scatter", "scatternd") for way in ("add", "mul")}}
INDICES = ("int32_type", "int64_type")
EPSILON = float(np.finfo(np.float32).eps)
#: The least normal numbers: IREE's threads flush what is below (docs/facts.md).
NORMAL = {"float_type": 1.1754944e-38, "bf16_type": 1.1754944e-38, "double_type": 2.2250738585072014e-308}


class Step:
    """One instruction with the operands that IREE had: values by id, for all it reads by way of others too."""

    def __init__(self, program: Program, instruction: Instruction, values: Mapping[str, np.ndarray]) -> None:
        self.instruction = instruction
        known = program.main.by_id()
        needed: dict[str, Instruction] = {}

        def visit(value: str) -> None:
            if value in values or value in needed:
                return
            for source in known[value].inputs:
                visit(source)
            needed[value] = known[value]

        for source in instruction.inputs:
            visit(source)
        self.between = list(needed.values())
        read = [value for i in (*self.between, instruction) for value in i.inputs]
        self.given = {value: values[value] for value in dict.fromkeys(read) if value in values}
        self.types = {value: known[value].shape.type for value in self.given}
        self.computed = [value for value in self.given if known[value].name != "@param"]
        self.operand_types = [known[value].shape.type for value in instruction.inputs]

    def evaluate(
        self,
        as_type: str | None = None,
        change: Callable[[np.ndarray], np.ndarray] = lambda x: x,
        name: str | None = None,
        operands: bool = False,
    ) -> list[np.ndarray]:
        """What MIGraphX makes of it: with all types replaced by one, and with changed operands; or the operands."""
        body: list[Instruction] = []
        inputs = {}
        places = {self.instruction.inputs[number] for number in PLACES.get(self.instruction.name, ())}
        for number, (value, array) in enumerate(self.given.items()):
            array = np.ascontiguousarray(array)
            type_ = as_type or self.types[value]
            if value in places and self.types[value] in INDICES:
                type_ = self.types[value]
            elif as_type is not None:
                array = array.astype(np.float64).astype(DTYPES[as_type])
            array = array if value in places else np.ascontiguousarray(change(array))
            body.append(
                Instruction(value, "@param", Shape.standard_of(type_, array.shape), {"parameter": f"x{number}"})
            )
            inputs[f"x{number}"] = array
        for i in self.between:
            literal = i.literal
            if literal is not None and as_type is not None:
                shape = Shape(as_type, literal.shape.lens, literal.shape.strides)
                data = change(literal.array().astype(np.float64).astype(DTYPES[as_type]))
                body.append(Instruction(i.id, "@literal", shape, literal=Literal(shape, data.tobytes())))
            else:
                body.append(i)
        last = self.instruction
        if not operands:
            body.append(Instruction(last.id, name or last.name, last.shape, dict(last.operator), last.inputs))
        results = tuple(dict.fromkeys(last.inputs)) if operands else (last.id,)
        body.append(Instruction("@end", "@return", Shape("float_type", (1,), (1,)), {}, results))
        found = dict(
            zip(results, on_ref(Program(7, "2.14.0", {"main": Module("main", tuple(body))}), inputs), strict=True)
        )
        return [found[value] for value in last.inputs] if operands else [found[last.id]]


def fault(step: Step, actual: np.ndarray) -> str | None:
    """What is wrong with the result of a step; None where nothing is."""
    found = _fault(step, actual, lambda x: x)
    if found is not None and any(
        bool((_denormal(array)).any())
        for array in step.given.values()
        if array.dtype in (np.float32, np.float64) or array.dtype == DTYPES["bf16_type"]
    ):
        found = _fault(step, actual, _flushed)
    return found


def _denormal(array: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        wide = np.abs(array.astype(np.float64))
    return (wide > 0) & (wide < (2.2250738585072014e-308 if array.dtype == np.float64 else 1.1754944e-38))


def _flushed(array: np.ndarray) -> np.ndarray:
    if array.dtype not in (np.float32, np.float64) and array.dtype != DTYPES["bf16_type"]:
        return array
    return np.where(_denormal(array), np.copysign(np.zeros_like(array), array), array).astype(array.dtype)


def _fault(step: Step, actual: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> str | None:
    i, name = step.instruction, step.instruction.name
    (expected,) = step.evaluate(change=change)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return f"{actual.dtype}{actual.shape} instead of {expected.dtype}{expected.shape}"
    if _same(actual, expected).all():
        return None
    try:
        with np.errstate(all="ignore"):
            if name in POINTWISE:
                _pointwise(step, actual, expected, change)
            elif name in ("convert", "quantizelinear", "dequantizelinear"):
                _retyped(step, actual, expected, change)
            elif name in ANCHORS:
                _anchor(step, actual, expected, change)
            elif name in EXACT or (name == "pooling" and i.operator["mode"] == 1):
                wrong = ~_same(actual, expected)
                if name == "pooling" and TYPES[i.shape.type].bits == 64 and not is_float(i.shape.type):
                    # MIGraphX has double on the way.
                    wrong &= np.abs(actual.astype(np.float64)) < 2**53
                if i.shape.type in NORMAL:
                    a, e = actual.astype(np.float64), expected.astype(np.float64)
                    wrong &= ~(np.abs(a - e) <= NORMAL[i.shape.type])
                _none(wrong, actual, expected)
            else:
                _reduced(step, actual, expected, change)
    except AssertionError as error:
        return str(error)[:600]
    return None


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.bool_:
        return a.view(np.int8) == b.view(np.int8)
    with np.errstate(all="ignore"):
        return (a == b) | ((a != a) & (b != b))


def _none(wrong: np.ndarray, *columns: np.ndarray) -> None:
    rows = [tuple(np.broadcast_to(c, wrong.shape)[tuple(at)].item() for c in columns) for at in np.argwhere(wrong)[:6]]
    assert not wrong.any(), f"{int(wrong.sum())} of {wrong.size} differ; IREE, MIGraphX[, in double, allowed]: {rows}"


def _flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(array).reshape(-1) for array in arrays]


def _pointwise(
    step: Step, actual: np.ndarray, expected: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    name, type_ = step.instruction.name, step.operand_types[0]
    truth = expected
    if POINTWISE[name].floats is not None:
        (truth,) = step.evaluate("double_type", change)
    operands = _flat(*(np.broadcast_to(x, expected.shape) for x in step.evaluate(change=change, operands=True)))
    a, e, t = _flat(actual, expected, truth)
    fine = ~_same(a, e)
    wide = [x.astype(np.float64) for x in operands]
    if name in ("cos", "sin", "tan"):
        # Larger angles have no digits left (docs/facts.md).
        fine &= ~(np.abs(wide[0]) > 1e15)
    if name == "mod" and type_ in NORMAL:
        # A remainder that is flushed counts as none, and what is left of a divisor is a multiple of it.
        tiny = np.abs(wide[1]) < NORMAL[type_] / float(ml_dtypes.finfo(operands[1].dtype).eps)
        fine &= ~(tiny & (np.abs(a.astype(np.float64) - e.astype(np.float64)) <= np.abs(wide[1])))
    if name == "pow" and type_.startswith("fp8"):
        fine &= ~np.any([np.isnan(x) for x in wide], axis=0)
    operands, a, e, t = [x[fine] for x in operands], a[fine], e[fine], t[fine]
    if not is_float(type_) or a.dtype == np.bool_:
        check_integers(name, type_, operands, a, e, t)
    else:
        check_floats(operands, a, e, t, type_, TABLE[name].ulps + (2 if TYPES[type_].bits < 32 else 0))


def _retyped(step: Step, actual: np.ndarray, expected: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """The rules of lowering/test_conversion.py."""
    i, source, target = step.instruction, step.operand_types[0], step.instruction.shape.type
    operands = _flat(*(np.broadcast_to(x, expected.shape) for x in step.evaluate(change=change, operands=True)))
    actual, expected = _flat(actual, expected)
    a, e, x = actual.astype(np.float64), expected.astype(np.float64), operands[0].astype(np.float64)
    wrong = ~_same(actual, expected)
    if i.name == "convert":
        wrong &= has_meaning(operands[0], source, target)
        if is_float(target):
            nan = np.isnan(x)
            # MIGraphX drops the bits that make some NaNs what they are.
            _none(nan & ~np.isnan(a), actual, expected)
            step_ = spacing(np.abs(e), actual.dtype) if target in ("half_type", "bf16_type") else 0.0
            wrong &= ~(np.abs(a - e) <= step_) & ~nan
            wrong &= ~((np.abs(e) < 1.2e-38) & (np.abs(a) <= np.abs(e)) & (TYPES[target].bits > 8))
            # It makes arbitrary halves of denormal floats, which IREE flushes.
            wrong &= ~((np.abs(x) < 1.2e-38) & (np.abs(a) < 1.2e-38))
    else:
        narrow = "half_type" in (source, target) or "bf16_type" in (source, target)
        if i.name == "quantizelinear" and not is_float(target):
            # MIGraphX truncates a quotient to the narrow type, IREE rounds it: they may be one whole number apart.
            quotient = x / operands[1].astype(np.float64)
            allowed = np.maximum(spacing(np.abs(quotient), operands[0].dtype), 1.0) if narrow else 0.0
            wrong &= ~(np.abs(a - e) <= allowed)
            # 0 by 0 is an integer that C++ does not define.
            wrong &= ~np.isnan(quotient)
        else:
            fp8 = "fp8" in target or "fp8" in source
            allowed = 1.5 * spacing(np.abs(e), actual.dtype) if narrow or fp8 else 0.0
            wrong &= ~(np.abs(a - e) <= allowed)
        wrong &= ~(np.isnan(e) & (np.abs(a) == 448))
        if i.name == "dequantizelinear" and "fp8" in source:
            # A NaN of 8 bits becomes inf as half or bf16.
            wrong &= ~(np.isnan(x) & np.isnan(a) & ~np.isfinite(e))
        product = np.abs(x * operands[1].astype(np.float64))
        wrong &= ~(((np.abs(e) < 1.2e-38) | (narrow & (product < 1.2e-38))) & (np.abs(a) <= np.abs(e)))
    _none(wrong, operands[0], actual, expected)


def _anchor(step: Step, actual: np.ndarray, expected: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Sums are in float, or double for doubles: each of the products may be off by a rounding of the sum of all."""
    i = step.instruction
    name = i.name.removeprefix("quant_")
    (truth,) = step.evaluate("double_type", change, name)
    (size,) = step.evaluate("double_type", lambda x: np.abs(change(x)), name)
    operands = step.evaluate(operands=True)
    terms = operands[0].shape[-1] if name == "dot" else math.prod(operands[1].shape) // min(operands[1].shape[:2])
    wrong = ~_same(actual, expected)
    if not is_float(i.shape.type):
        low, high = limits(i.shape.type)
        # A larger sum has no meaning in MIGraphX, which sums in double.
        wrong &= size < min(high, 2**53)
        if low == 0:
            wrong &= truth >= 0
        _none(wrong, actual, expected, truth)
        return
    double = i.shape.type == "double_type"
    epsilon = 2.0**-52 if double else EPSILON
    # A sum that leaves float's range on the way.
    wrong &= ~(size > (1e308 if double else 3.4e38))
    if name == "convolution_backwards":
        # Next to an infinite input a tap of zeros makes a NaN.
        wrong &= ~(np.isnan(actual.astype(np.float64)) & (not np.isfinite(operands[0].astype(np.float64)).all()))
    _within(wrong, actual, expected, truth, i.shape.type, 2 * (terms + 2) * epsilon * size)


def _within(
    wrong: np.ndarray, actual: np.ndarray, expected: np.ndarray, truth: np.ndarray, type_: str, slack: np.ndarray
) -> None:
    """As `check_floats`, with errors of sums allowed for."""
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    greatest = GREATEST[type_]
    end = greatest + spacing(np.array(greatest), actual.dtype)
    known = (type_ == "fp8e4m3fn_type") & np.isnan(e) & (np.abs(truth) >= 464 - slack) & (np.abs(a) == greatest)
    held = [np.clip(values, -end, end) for values in (a, e, truth)]
    narrow = 2 if TYPES[type_].bits < 32 else 1
    slack = slack + 2 * NORMAL.get(type_, 0.0)
    # MIGraphX sums some halves as halves: that these leave their range and become NaN is its own affair.
    own = np.where(np.isnan(e) & ~np.isnan(truth), 0.0, np.abs(held[1] - held[2]))
    allowed = 2 * own + slack + narrow * spacing(np.minimum(np.abs(truth), greatest), actual.dtype)
    wrong = wrong & ~(np.abs(held[0] - held[2]) <= allowed) & ~known & ~(np.isnan(a) & np.isnan(truth))
    _none(wrong, actual, expected, truth, allowed)


def _reduced(step: Step, actual: np.ndarray, expected: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Sums, means, products, softmax, pooling and roialign, in float for halves too; what is summed where it lies."""
    i, type_ = step.instruction, step.instruction.shape.type
    (truth,) = step.evaluate("double_type", change)
    operand = step.evaluate(change=change, operands=True)[0]
    x = operand.astype(np.float64)
    wrong = ~_same(actual, expected)
    if not is_float(type_) and i.name.startswith(("prefix", "scatter")):
        # These wrap in the type itself.
        _none(wrong, actual, expected, truth)
        return
    if not is_float(type_):
        # A larger number has no meaning in MIGraphX, which has double on the way.
        (size,) = step.evaluate("double_type", lambda v: np.abs(change(v)))
        wrong &= size * (operand.size // max(expected.size, 1)) < min(limits(type_)[1], 2**53)
        _none(wrong, actual, expected, truth)
        return
    if i.name in ("reduce_sum", "reduce_mean", "pooling"):
        terms = operand.size // max(expected.size, 1) if i.name != "pooling" else math.prod(i.operator["lengths"])
        (size,) = step.evaluate("double_type", lambda v: np.abs(change(v)))
        # A mean's sum is larger than the mean; a norm takes powers, and their root.
        power = i.operator["lp_order"] if i.name == "pooling" and i.operator["mode"] == 2 else 1
        factor = (terms + 2) * (power + 8 * (power > 2))
        scale = terms if i.name != "reduce_sum" else 1
        wrong &= ~(np.abs(size) * scale > 3.4e38 ** (1 / power)) & ~(
            np.isnan(size) & np.isnan(actual.astype(np.float64))
        )
        slack = 2 * factor * EPSILON * size
        if power > 1:
            # Powers that are flushed.
            least = np.nanmin(np.where(np.isfinite(x) & (x != 0), np.abs(x), np.inf), initial=np.inf)
            slack = slack + (1.2e-38 ** (1 / power) * terms if least < 1.2e-38 ** (1 / power) else 0.0)
    elif i.name == "roialign":
        (size,) = step.evaluate("double_type", lambda v: np.abs(change(v)))
        slack = 2 * (4 * i.operator["sampling_ratio"] ** 2 + 4) * EPSILON * size
        wrong &= ~(np.abs(size) > 1e37)
    elif i.name.startswith(("prefix", "scatter")):
        # Each step is rounded to the type itself, by MIGraphX halves toward zero.
        (size,) = step.evaluate("double_type", lambda v: np.abs(change(v)))
        terms = x.shape[i.operator["axis"]] if i.name.startswith("prefix") else 4
        slack = terms * float(ml_dtypes.finfo(DTYPES[type_]).eps) * size
        # What leaves the type's range on the way.
        wrong &= ~(np.abs(size) >= GREATEST[type_] / 2)
    elif i.name == "reduce_prod":
        terms = operand.size // max(expected.size, 1)
        slack = 2 * (terms + 1) * EPSILON * np.abs(truth)
        # What leaves float's range on the way.
        magnitude = np.abs(np.log2(np.where((x == 0) | ~np.isfinite(x), 1.0, np.abs(x)))).sum()
        wrong &= magnitude < 120
    elif i.name == "logsoftmax":
        # The quotient is in float: its logarithm ends where that does.
        slack = 16 * EPSILON * (1 + np.abs(truth)) + 0.0 * truth
        wrong &= ~(truth < -80)
    else:
        assert i.name == "softmax", f"no rule for {i.name}"
        finite = np.where(np.isfinite(x), x, 0.0)
        slack = (16 + x.shape[i.operator["axis"]] + np.ptp(finite)) * EPSILON * np.abs(truth)
    _within(wrong, actual, expected, truth, type_, slack)
