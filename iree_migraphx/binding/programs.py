"""Programs: compiling, running, and what they take and give."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iree_migraphx.binding import callbacks, capi, inputs, messages, official, scratch, serialized
from iree_migraphx.binding.arguments import argument
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.modules import module
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.targets import target
from iree_migraphx.errors import InputError, MigraphxError
from iree_migraphx.report import Report

if TYPE_CHECKING:
    from typing_extensions import Self


class program:  # noqa: N801 -- the official name
    """A program: empty when made, else from parse_onnx, load or load_buffer.

    A compiled program may be run from several threads at once, as far as MIGraphX's target allows it.

    Attributes:
        iree_report: what became of each subgraph, where iree_migraphx compiled the program.
    """

    __slots__ = ("__weakref__", "_compiled", "_handle", "_modules", "_parameters", "era", "iree_report")

    def __init__(self) -> None:
        self._handle = capi.new("program", "program_create")
        self._compiled = False
        self._parameters: dict[str, shape] | None = None
        self._modules: dict[str, module] = {}
        self.era = 0
        self.iree_report: Report | None = None

    @classmethod
    def wrap(cls, handle: Handle, compiled: bool) -> Self:
        """The program behind a handle of the C interface."""
        self = cls.__new__(cls)
        self._handle, self._compiled, self._parameters, self._modules = handle, compiled, None, {}
        self.era = 0
        self.iree_report = None
        return self

    @property
    def handle(self) -> Handle:
        """The program of the C interface."""
        return self._handle

    def _module(self, name: str, pointer: int) -> module:
        """One object for each module, since it remembers what was added."""
        return self._modules.setdefault(name, module(self, pointer, name))

    def changed(self) -> None:
        """Forget what was known of the program's parameters."""
        self._parameters = None

    def rewritten(self) -> None:
        """Note that MIGraphX may have replaced instructions and modules: references to the old ones are void."""
        self._parameters = None
        self.era += 1

    def get_main_module(self) -> module:
        """The module that a run starts in."""
        return self._module("main", capi.borrow("program_get_main_module", self._handle))

    def create_module(self, name: str) -> module:
        """Add an empty module, to be the submodule of an instruction.

        Raises:
            InputError: there is one of that name.
        """
        if name in serialized.nodes(serialized.save(self._handle)):
            raise InputError(f"the program has a module {name!r} already")
        return self._module(name, capi.borrow("program_create_module", self._handle, name.encode()))

    def get_parameter_names(self) -> list[str]:
        """Names of the parameters."""
        return list(self._shapes())

    def get_parameter_shapes(self) -> dict[str, shape]:
        """Shape of each parameter."""
        return dict(self._shapes())

    def get_output_shapes(self) -> list[shape]:
        """Shapes of the results, in order."""
        shapes = capi.new("shapes", "program_get_output_shapes", self._handle)
        count = capi.size("shapes_size", shapes)
        return [shape.from_pointer(capi.borrow("shapes_get", shapes, index)) for index in range(count)]

    def is_compiled(self) -> bool:
        """The program has been compiled for a target."""
        return self._compiled

    def compile(
        self, t: target, offload_copy: bool = True, fast_math: bool = True, exhaustive_tune: bool = False
    ) -> None:
        """Compile the program in place.

        Args:
            t: what for.
            offload_copy: copy inputs to the device and results back; without it they are memory of the device.
            fast_math: allow less exact but faster forms of some operators.
            exhaustive_tune: try every kernel that MIGraphX knows, which takes long.

        Raises:
            MigraphxError: MIGraphX can't compile it, and the program is then of no more use; or it is compiled already.
            InputError: the program has no instructions.
        """
        if not isinstance(t, target):
            raise TypeError(f"compile takes a target of get_target, not {t!r}")
        if self._compiled:  # assertions of MIGraphX's would end the process, here and below
            raise MigraphxError("the program is compiled already, and can't be compiled again")
        self._require_instructions()
        options = capi.new("compile_options", "compile_options_create")
        capi.call("compile_options_set_offload_copy", options, offload_copy)
        capi.call("compile_options_set_fast_math", options, fast_math)
        capi.call("compile_options_set_exhaustive_tune_flag", options, exhaustive_tune)
        self.rewritten()
        capi.guarded(f"compile the program for {t.name}", "program_compile", self._handle, t.handle, options)
        self._compiled = True

    def run(self, params: Mapping[str, Any]) -> list[argument]:
        """Run the program.

        Args:
            params: for each parameter a numpy array (or what numpy sees as one) or an argument; others are left aside.
                Memory is handed over as it is where its strides are the parameter's, else copied.

        Returns:
            The results; their memory stays valid while they, or numpy views of them, live.

        Raises:
            InputError: a parameter is missing, or has the wrong shape or dtype.
            MigraphxError: MIGraphX failed; its cause is the exception of a custom operator in Python, if that was it.
        """
        bound = self._bind(params)
        out = ctypes.c_void_p()
        with callbacks.errors() as raised, scratch.run():
            status = capi.function("program_run")(ctypes.byref(out), self._handle, bound.handle)
        if status:
            self._explain(bound, raised)
        return self._results(out, bound)

    def run_async(self, params: Mapping[str, Any], stream: int, stream_name: str = "ihipStream_t") -> list[argument]:
        """Put the run on a stream of the device and return at once; the results are valid once the stream is through.

        Args:
            params: as in run; memory of the device, which must stay as it is until the stream is through.
            stream: address of the stream (hipStream_t).
            stream_name: the C++ type that it points to; MIGraphX wants "ihipStream_t".
        """
        bound = self._bind(params)
        out = ctypes.c_void_p()
        with callbacks.errors() as raised:
            status = capi.function("program_run_async")(
                ctypes.byref(out), self._handle, bound.handle, stream, stream_name.encode()
            )
        if status:
            raise capi.failure("MIGraphX can't run the program; it printed the cause on stderr", _last(raised))
        return self._results(out, bound)

    def copy(self) -> Self:
        """The same program once more, to be changed by itself; constants are shared."""
        handle = capi.new("program", "program_create")
        capi.call("program_assign_to", handle, self._handle)
        return type(self).wrap(handle, self._compiled)

    def become(self, other: program) -> None:
        """Be the same program as another one from now on. Results of earlier runs stay valid."""
        self._handle, self._compiled = other._handle, other._compiled
        self.rewritten()

    def sort(self) -> None:
        """Order the instructions so that each comes right before its users, as far as possible."""
        self.rewritten()
        capi.guarded("sort the program", "program_sort", self._handle)

    def to_py(self) -> str:
        """The program as Python code that builds it; only ROCm's `migraphx` module can write it.

        Raises:
            LibraryNotFoundError: that module is not installed.
        """
        text: str = official.load(serialized.save(self._handle)).to_py()
        return text

    def print(self) -> None:
        """Print the program on stdout."""
        print(repr(self))

    def __repr__(self) -> str:
        with messages.capture(1) as captured:
            capi.call("program_print", self._handle)
        return captured.text.removesuffix("\n")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, program):
            return NotImplemented
        return capi.truth("program_equal", self._handle, other._handle)

    __hash__ = None  # type: ignore[assignment]

    def _shapes(self) -> dict[str, shape]:
        """Shapes of the parameters by name, which MIGraphX keeps in no order."""
        if self._parameters is None:
            # Not a guarded call: the first run would wait for another thread's compile.
            shapes = capi.new("program_parameter_shapes", "program_get_parameter_shapes", self._handle)
            names = (ctypes.c_char_p * capi.size("program_parameter_shapes_size", shapes))()
            capi.call("program_parameter_shapes_names", names, shapes)
            self._parameters = {
                name.decode(): shape.from_pointer(capi.borrow("program_parameter_shapes_get", shapes, name))
                for name in sorted(name for name in names if name is not None)
            }
        return self._parameters

    def _bind(self, params: Mapping[str, Any]) -> inputs.Bound:
        if not self._compiled:
            self._require_instructions()
        return inputs.bind(self._shapes(), params)

    def _require_instructions(self) -> None:
        if not self._shapes() and not serialized.nodes(serialized.save(self._handle))["main"]:
            raise InputError("the program has no instructions")

    def _explain(self, bound: inputs.Bound, raised: deque[BaseException]) -> None:
        """Raise for a run that failed. MIGraphX's text is on stderr only: fail once more where it can be read."""
        if not raised:
            again = ctypes.c_void_p()
            capi.guarded("run the program", "program_run", ctypes.byref(again), self._handle, bound.handle)
            Handle(again.value or 0, "arguments")
        raise capi.failure(
            f"MIGraphX can't run the program: {callbacks.describe(raised[-1])}"
            if raised
            else "a run of the program failed, and succeeded when repeated; MIGraphX printed the cause on stderr",
            _last(raised),
        )

    def _results(self, out: ctypes.c_void_p, bound: inputs.Bound) -> list[argument]:
        assert out.value is not None
        values = Handle(out.value, "arguments")
        results = []
        for index in range(capi.size("arguments_size", values)):
            pointer = capi.borrow("arguments_get", values, index)
            # A copy of C++'s argument shares the memory, but not the other results'.
            own = capi.new("argument", "argument_create", capi.borrow("argument_shape", pointer), None)
            capi.call("argument_assign_to", own, pointer)
            # The memory may be the program's (scratch, literals) or an input's, handed through; writing is allowed all
            # the same, as in ROCm's module.
            result = argument.wrap(own)
            results.append(result)
            result._keep = (self._handle, bound.owner_of(result))
        return results


def _last(raised: deque[BaseException]) -> BaseException | None:
    return raised[-1] if raised else None
