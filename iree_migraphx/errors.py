"""Every exception of the package, and Reason: why a subgraph was left to MIGraphX.

Where ROCm's module raises RuntimeError, so that scripts catch it, these are RuntimeErrors too.
"""

from __future__ import annotations

import enum


class IreeMigraphxError(Exception):
    """Base of everything this package raises on purpose."""


class OptionError(IreeMigraphxError, ValueError):
    """A setting (argument, environment variable or IREE_CONFIG entry) can't be used; the message says which and why."""


class TargetError(OptionError, RuntimeError):
    """A MIGraphX target or a GPU name that is not known."""


class LibraryNotFoundError(IreeMigraphxError, ImportError):
    """libmigraphx_c was not found or can't be loaded."""


class MigraphxError(IreeMigraphxError, RuntimeError):
    """MIGraphX refused a call; carries MIGraphX's own text, and is a RuntimeError as in the official module."""


class FormatError(IreeMigraphxError, ValueError, RuntimeError):
    """A serialized program (.mxr) that can't be read or written: wrong version, truncated, not msgpack."""


class InputError(IreeMigraphxError, ValueError, RuntimeError):
    """An input of a program with a wrong name, shape or dtype, or a part of a program that can't be built."""


class CaptureError(IreeMigraphxError):
    """MIGraphX's own fused program could not be had, or is in a form that is not known."""


class HelperError(IreeMigraphxError):
    """A process in which MIGraphX compiled for the gpu failed.

    Args:
        message: what became of it, with its last words.
        refused: MIGraphX said no, in an orderly way; otherwise it crashed, or took too long.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class CompilerNotFoundError(IreeMigraphxError):
    """No working iree-compile where IREE_BIN, IREE_TOOL_PATH, the wheel and PATH were searched."""


class KernelError(IreeMigraphxError, RuntimeError):
    """A host kernel failed while it ran."""


class Reason(enum.Enum):
    """Why a subgraph stays with MIGraphX. The value is the word that reports show; it never changes its meaning."""

    DISABLED = "disabled"
    EXCLUDED = "excluded"
    DYNAMIC_SHAPE = "dynamic-shape"
    UNSUPPORTED_TYPE = "unsupported-type"
    UNSUPPORTED_OPERATOR = "unsupported-operator"
    UNSUPPORTED_LAYOUT = "unsupported-layout"
    LOWERING_ERROR = "lowering-error"
    UNKNOWN_DEVICE = "unknown-device"
    NO_COMPILER = "no-compiler"
    COMPILE_ERROR = "compile-error"
    COMPILER_CRASH = "compiler-crash"
    TIMEOUT = "timeout"
    BAD_COMPILER_OUTPUT = "bad-compiler-output"
    DISK = "disk"
    MULTI_DISPATCH = "multi-dispatch"
    FILL_OR_COPY = "fill-or-copy"
    PUSH_CONSTANTS = "push-constants"
    PARTIAL_BINDING = "partial-binding"
    DYNAMIC_GRID = "dynamic-grid"
    GRID_NOT_1D = "grid-not-1d"
    BLOCK_NOT_1D = "block-not-1d"
    LDS_LIMIT = "lds-limit"
    SCALAR_ARGUMENTS = "scalar-arguments"
    WRONG_TARGET = "wrong-target"
    RUN_ERROR = "run-error"
    WRONG_RESULT = "wrong-result"
    SPLICE_ERROR = "splice-error"

    @property
    def description(self) -> str:
        """One sentence for people who read a report."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Reason.DISABLED: "IREE is switched off (IREE_DISABLE=1 or the option `disable`)",
    Reason.EXCLUDED: "an option excludes this subgraph",
    Reason.DYNAMIC_SHAPE: "the program has dynamic shapes",
    Reason.UNSUPPORTED_TYPE: "an element type that the lowering does not know yet",
    Reason.UNSUPPORTED_OPERATOR: "an operator or attribute that the lowering does not know yet",
    Reason.UNSUPPORTED_LAYOUT: "an operand layout that can't be described without a copy",
    Reason.LOWERING_ERROR: "the MLIR of the subgraph could not be built",
    Reason.UNKNOWN_DEVICE: "IREE can't compile for this machine's GPU",
    Reason.NO_COMPILER: "there is no iree-compile on this machine",
    Reason.COMPILE_ERROR: "iree-compile reported an error",
    Reason.COMPILER_CRASH: "iree-compile was killed or crashed",
    Reason.TIMEOUT: "iree-compile took longer than the time limit for one kernel",
    Reason.BAD_COMPILER_OUTPUT: "iree-compile succeeded but what it wrote can't be read",
    Reason.DISK: "no room, or no right, to write the compiler's files",
    Reason.MULTI_DISPATCH: "IREE made dispatches of it that are not simply one after the other",
    Reason.FILL_OR_COPY: "IREE fills or copies a buffer in a way that MIGraphX has no operator for",
    Reason.PUSH_CONSTANTS: "the kernel wants push constants, which MIGraphX can't give",
    Reason.PARTIAL_BINDING: "a kernel argument is no aligned part of an operand, or of a buffer that MIGraphX can plan",
    Reason.DYNAMIC_GRID: "the number of workgroups is not a constant",
    Reason.GRID_NOT_1D: "the grid has a y or z dimension, which MIGraphX can't launch",
    Reason.BLOCK_NOT_1D: "the workgroup has a y or z dimension, which MIGraphX can't launch",
    Reason.LDS_LIMIT: "more local memory (LDS) than the device has for a workgroup",
    Reason.SCALAR_ARGUMENTS: "the kernel takes arguments that are not pointers",
    Reason.WRONG_TARGET: "the code object is for another device",
    Reason.RUN_ERROR: "the kernel failed when it was tried (IREE_MIGRAPHX_VERIFY)",
    Reason.WRONG_RESULT: "the kernel's results are not MIGraphX's (IREE_MIGRAPHX_VERIFY)",
    Reason.SPLICE_ERROR: "the kernel could not be put into the program",
}


class Refusal(IreeMigraphxError):  # noqa: N818 -- not an error of the user's: the subgraph just stays with MIGraphX
    """Raised by a stage that can't take a subgraph; the pipeline turns it into a line of the report.

    Args:
        reason: the category.
        detail: what exactly, for a person: the operator, the shape, the compiler's first line of error.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Refusal], tuple[Reason, str]]:
        """Make the refusal cross process borders."""
        return Refusal, (self.reason, self.detail)
