"""Many programs compiled at once, for a tenth of what each costs by itself.

Half of a kernel's price is the planning of its dispatches, and most of the rest the search for tile sizes and the
optimisation of what comes of them. Here some programs share one dispatch, and IREE makes plain loops of it: what is
tested is the lowering, and how IREE computes one element.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iree_migraphx.ir.layout import physical_lens
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels import invoke
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.flags import compile_flags
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.bindings import ir
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.rounding import round_bf16
from iree_migraphx.lowering.types import memory_type
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.runtime import _ELEMENT_TYPES, aligned_bytes, device
from programs import strided

#: What IREE's runtime lets one dispatch read and write.
BINDINGS = 32
#: Loops as they are, and little work for LLVM.
SIMPLE = (
    "--verify=false",
    "--iree-llvmcpu-stack-allocation-limit=4194304",
    "--iree-llvmcpu-loop-vectorization=false",
    "--iree-llvmcpu-slp-vectorization=false",
    "--iree-llvmcpu-loop-unrolling=false",
    "--iree-llvmcpu-loop-interleaving=false",
    "--opt-bisect-limit=0",
    "--opt-bisect-verbose=false",
)
_LOOPS = "attributes {translation_info = #iree_codegen.translation_info<pipeline = #iree_cpu.pipeline<Default>>} "
SECONDS = 600
#: Of processor time and of memory (kB), which some programs make the compiler take without end.
_LIMITED = 'ulimit -t 40; ulimit -v 6000000; exec "$@"'


class CompileError(Exception):
    """IREE refused a module."""


@dataclass(frozen=True)
class Function:
    """The text of a lowered program, in parts: aliases, arguments, result types, body."""

    aliases: tuple[str, ...]
    arguments: str
    results: str
    body: tuple[str, ...]
    returned: str

    @property
    def alone(self) -> bool:
        """Not for a shared dispatch: IREE makes no loops of attention there."""
        return any("iree_linalg_ext." in line for line in self.body)


def function_of(subgraph: Subgraph, form: Form) -> Function:
    """Raises Refusal as the lowering."""
    lines = _rounded(lower(subgraph, "f", form)).splitlines()
    start = lines.index("module {")
    head = re.match(r"  func\.func @f\((.*)\) -> (.*) \{$", lines[start + 1])
    end = re.match(r"    return (.*) : ", lines[-3])
    assert head and end, lines
    results = head[2].removeprefix("(").removesuffix(")") if head[2].startswith("(") else head[2]
    return Function(tuple(lines[:start]), head[1], results, tuple(lines[start + 2 : -3]), end[1])


def _rounded(text: str) -> str:
    """Every form as the host's, as it is the host that computes it."""
    if "bf16" not in text:
        return text
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        round_bf16(module)
        return str(module)


def _renamed(text: str, number: int) -> str:
    text = re.sub(r"%(\w+)", rf"%p{number}_\1", text)
    return re.sub(r"#(map\d*)\b", rf"#p{number}_\1", text)


def _group(functions: Sequence[tuple[int, Function]], symbol: str) -> list[str]:
    """Functions as one with one dispatch of one workgroup, which loads all operands and stores all results."""
    arguments, operands, outputs, before, body, after = [], [], [], [], [], []
    for number, function in functions:
        for argument in _split(_renamed(function.arguments, number)):
            if "iree.abi.output" in argument:
                place = len(arguments) - len(operands)
                arguments.append(re.sub(r"iree\.abi\.output = \d+", f"iree.abi.output = {place}", argument))
                continue
            name, type_ = argument.split(": ")
            arguments.append(f"%same{len(operands)}: {type_}")
            inside, whole = f"%in{len(operands)}", f"!iree_tensor_ext.dispatch.tensor<readonly:{type_}>"
            before.append(f"{name} = iree_tensor_ext.dispatch.tensor.load {inside}, {_all(type_)} : {whole} -> {type_}")
            operands.append((name, type_, f"{inside}: {whole}"))
        for line in function.body:
            # Inside a dispatch nothing is kept apart.
            line = re.sub(r"util\.optimization_barrier (%\w+) : (.*)", r"tensor.cast \1 : \2 to \2", line)
            body.append(_renamed(line, number))
        for value, type_ in zip(function.returned.split(", "), function.results.split(", "), strict=True):
            inside, whole = f"%out{len(outputs)}", f"!iree_tensor_ext.dispatch.tensor<writeonly:{type_}>"
            renamed = _renamed(value, number)
            after.append(
                f"iree_tensor_ext.dispatch.tensor.store {renamed}, {inside}, {_all(type_)} : {type_} -> {whole}"
            )
            outputs.append((type_, f"{inside}: {whole}"))
    types = ", ".join(type_ for type_, _ in outputs)
    results = ", ".join(f"%r#{i}" for i in range(len(outputs))) if len(outputs) > 1 else "%r"
    return [
        f"  func.func @{symbol}({', '.join(arguments)}) -> ({types}) {{",
        f"    %r{f':{len(outputs)}' if len(outputs) > 1 else ''} = flow.dispatch.workgroups"
        f"({', '.join(f'%same{i}' for i in range(len(operands)))}) : "
        f"({', '.join(type_ for _, type_, _ in operands)}) -> ({types}) =",
        f"    ({', '.join([*(inside for _, _, inside in operands), *(inside for _, inside in outputs)])}) {{",
        *before,
        *body,
        *after,
        "      flow.return",
        "    } count() -> (index, index, index) {",
        "      %one = arith.constant 1 : index",
        "      flow.return %one, %one, %one : index, index, index",
        "    }",
        f"    return {results} : {types}",
        "  }",
    ]


def _all(type_: str) -> str:
    """The whole of a tensor, for loads and stores."""
    lens = re.findall(r"(\d+)x", type_.removeprefix("tensor<"))
    zeros, ones = ", ".join("0" for _ in lens), ", ".join("1" for _ in lens)
    return f"offsets = [{zeros}], sizes = [{', '.join(lens)}], strides = [{ones}]"


def _split(arguments: str) -> list[str]:
    return re.split(r", (?=%)", arguments)


def _compile(text: str, flags: Sequence[str]) -> bytes:
    """A module's bytecode, or its text with --compile-to; nothing of the compiler outlives us."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.mlir").write_text(text)
        compiler = [str(find_compiler(Options()).path), str(folder / "in.mlir"), "-o", str(folder / "out"), *flags]
        done = invoke.run(["/bin/sh", "-c", _LIMITED, "sh", *compiler], folder, SECONDS, threading.Event())
        if done.status != 0:
            raise CompileError(f"status {done.status}: {done.explanation[:400]}")
        return (folder / "out").read_bytes()


def _shared(functions: Sequence[Function]) -> list[tuple[int, ...]]:
    """The functions that can share dispatches, by dispatch."""
    found: list[tuple[int, ...]] = []
    left = 0
    for number, function in enumerate(functions):
        if not function.alone:
            bindings = len(_split(function.arguments))
            if bindings > left:
                found.append(())
                left = BINDINGS
            found[-1] += (number,)
            left -= bindings
    return found


@dataclass(frozen=True)
class Module:
    """Bytecode, and each of its functions by name with the programs that it computes."""

    vmfb: bytes
    functions: Mapping[str, tuple[int, ...]]


def compiled(functions: Sequence[Function], own: bool = False) -> Module:
    """One module of all; with `own` each has its own function and dispatches, and the flags are the product's.

    Raises:
        CompileError: IREE refused it.
    """
    flags = [str(flag) for flag in compile_flags(parse_target("host"), Options())]
    lines = [_renamed(alias, n) for n, function in enumerate(functions) for alias in function.aliases]
    lines.append("module {")
    plan: dict[str, tuple[int, ...]] = {}
    if not own:
        for members in _shared(functions):
            symbol = f"g{len(plan)}"
            plan[symbol] = members
            lines += _group([(number, functions[number]) for number in members], symbol)
    for number, function in enumerate(functions):
        if own or function.alone:
            plan[f"f{number}"] = (number,)
            lines.append(f"  func.func @f{number}({_renamed(function.arguments, number)}) -> ({function.results}) {{")
            lines += [_renamed(line, number) for line in function.body]
            lines += [f"    return {_renamed(function.returned, number)} : {function.results}", "  }"]
    text = "\n".join([*lines, "}"])
    if own:
        return Module(_compile(text, flags), plan)
    flags += SIMPLE
    sources = _compile(text, [*flags, "--compile-to=executable-sources"]).decode()
    sources = re.sub(r"(func\.func @g\d+_dispatch[^(]*\(\)) (?=\{)", rf"\1 {_LOOPS}", sources)
    return Module(_compile(sources, [*flags, "--compile-from=executable-sources"]), plan)


@dataclass(frozen=True)
class Interface:
    """Shapes of a program's operands and results."""

    operands: tuple[Shape, ...]
    names: tuple[str, ...]
    results: tuple[Shape, ...]


def interface_of(subgraph: Subgraph) -> Interface:
    parameters = subgraph.parameters
    return Interface(tuple(p.shape for p in parameters), tuple(p.id for p in parameters), subgraph.result_shapes)


def run(
    module: Module, interfaces: Sequence[Interface], inputs: Sequence[Mapping[str, np.ndarray]]
) -> list[list[np.ndarray]]:
    """The results of every program of a module."""
    queue = device(2).inline
    r = queue.runtime
    code = r.VmModule.copy_buffer(queue.instance, module.vmfb)
    context = r.VmContext(queue.instance, [queue.hal, code])
    results: dict[int, list[np.ndarray]] = {}
    for symbol, members in module.functions.items():
        kept = []
        given: list[tuple[np.ndarray, bytes]] = []
        arguments = r.VmVariantList(0)
        for number in members:
            interface = interfaces[number]
            for name, shape in zip(interface.names, interface.operands, strict=True):
                memory = aligned_bytes(shape.nbytes)
                strided(memory.view(shape.dtype), shape)[...] = inputs[number][name]
                buffer = queue.buffer(memory)
                element = getattr(r.HalElementType, _ELEMENT_TYPES[memory_type(shape.type)])
                kept += [memory, buffer]
                given.append((memory, memory.tobytes()))
                arguments.push_ref(r.HalBufferView(buffer, list(physical_lens(shape)), element))
            results[number] = []
            for shape in interface.results:
                memory = aligned_bytes(shape.nbytes)
                memory[:] = 0xA5
                buffer = queue.buffer(memory)
                kept.append(buffer)
                arguments.push_ref(buffer)
                results[number].append(strided(memory.view(shape.dtype), shape))
        try:
            context.invoke(code.lookup_function(symbol), arguments, r.VmVariantList(1))
        except (ValueError, IndexError, RuntimeError) as error:
            raise CompileError(f"IREE's runtime: {error}") from error
        assert all(memory.tobytes() == before for memory, before in given), f"{symbol} writes to an operand"
    return [[value.copy() for value in results[number]] for number in range(len(interfaces))]
