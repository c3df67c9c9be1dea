"""MIGraphX's C functions: prototypes as data, handles that are destroyed in time, and calls that raise.

The prototypes follow migraphx.h of release rocm-7.1.1; functions of other releases are looked up when they are called.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any

from iree_migraphx.binding import callbacks, library, messages
from iree_migraphx.errors import MigraphxError

_OUT = POINTER(c_void_p)
_SIZE = POINTER(c_size_t)
_BOOL = POINTER(c_bool)
_INT = POINTER(c_int)
_H = c_void_p

#: C function without its prefix "migraphx_" -> argument types. Every function returns a status, 0 for success.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "optimals_create": (_OUT, _SIZE, c_size_t),
    "dynamic_dimension_create_min_max": (_OUT, c_size_t, c_size_t),
    "dynamic_dimension_create_min_max_optimals": (_OUT, c_size_t, c_size_t, _H),
    "dynamic_dimensions_create": (_OUT, _OUT, c_size_t),
    "shape_assign_to": (_H, _H),
    "shape_create_with_strides": (_OUT, c_int, _SIZE, c_size_t, _SIZE, c_size_t),
    "shape_create": (_OUT, c_int, _SIZE, c_size_t),
    "shape_create_dynamic": (_OUT, c_int, _H),
    "shape_lengths": (POINTER(_SIZE), _SIZE, _H),
    "shape_strides": (POINTER(_SIZE), _SIZE, _H),
    "shape_type": (_INT, _H),
    "shape_bytes": (_SIZE, _H),
    "shape_elements": (_SIZE, _H),
    "shape_standard": (_BOOL, _H),
    "shape_equal": (_BOOL, _H, _H),
    "shape_dynamic": (_BOOL, _H),
    "argument_assign_to": (_H, _H),
    "argument_create": (_OUT, _H, c_void_p),
    "argument_create_empty": (_OUT, _H),
    "argument_shape": (_OUT, _H),
    "argument_buffer": (_OUT, _H),
    "argument_equal": (_BOOL, _H, _H),
    "argument_save": (_H, c_char_p),
    "argument_load": (_OUT, c_char_p),
    "argument_generate": (_OUT, _H, c_size_t),
    "arguments_size": (_SIZE, _H),
    "arguments_get": (_OUT, _H, c_size_t),
    "shapes_size": (_SIZE, _H),
    "shapes_get": (_OUT, _H, c_size_t),
    "target_create": (_OUT, c_char_p),
    "program_parameter_shapes_size": (_SIZE, _H),
    "program_parameter_shapes_get": (_OUT, _H, c_char_p),
    "program_parameter_shapes_names": (POINTER(c_char_p), _H),
    "program_parameters_create": (_OUT,),
    "program_parameters_add": (_H, c_char_p, _H),
    "instructions_create": (_OUT, _OUT, c_size_t),
    "modules_create": (_OUT, _OUT, c_size_t),
    "module_print": (_H,),
    "module_add_instruction": (_OUT, _H, _H, _H),
    "module_add_instruction_with_mod_args": (_OUT, _H, _H, _H, _H),
    "module_add_literal": (_OUT, _H, _H, c_void_p),
    "module_add_parameter": (_OUT, _H, c_char_p, _H),
    "module_add_return": (_OUT, _H, _H),
    "program_create": (_OUT,),
    "program_assign_to": (_H, _H),
    "program_get_main_module": (_OUT, _H),
    "program_create_module": (_OUT, _H, c_char_p),
    "program_compile": (_H, _H, _H),
    "program_get_parameter_shapes": (_OUT, _H),
    "program_get_output_shapes": (_OUT, _H),
    "program_print": (_H,),
    "program_sort": (_H,),
    "program_run": (_OUT, _H, _H),
    "program_run_async": (_OUT, _H, _H, c_void_p, c_char_p),
    "program_equal": (_BOOL, _H, _H),
    "operation_create": (_OUT, c_char_p, c_char_p),
    "load": (_OUT, c_char_p, _H),
    "save": (_H, c_char_p, _H),
    "onnx_options_create": (_OUT,),
    "onnx_options_set_input_parameter_shape": (_H, c_char_p, _SIZE, c_size_t),
    "onnx_options_set_dyn_input_parameter_shape": (_H, c_char_p, _H),
    "onnx_options_set_default_dim_value": (_H, c_size_t),
    "onnx_options_set_default_dyn_dim_value": (_H, _H),
    "onnx_options_set_default_loop_iterations": (_H, c_int64),
    "onnx_options_set_limit_loop_iterations": (_H, c_int64),
    "onnx_options_set_external_data_path": (_H, c_char_p),
    "file_options_create": (_OUT,),
    "file_options_set_file_format": (_H, c_char_p),
    "compile_options_create": (_OUT,),
    "compile_options_set_offload_copy": (_H, c_bool),
    "compile_options_set_fast_math": (_H, c_bool),
    "compile_options_set_exhaustive_tune_flag": (_H, c_bool),
    "parse_onnx": (_OUT, c_char_p, _H),
    "parse_onnx_buffer": (_OUT, c_char_p, c_size_t, _H),
    "tf_options_create": (_OUT,),
    "tf_options_set_nhwc": (_H, c_bool),
    "tf_options_set_input_parameter_shape": (_H, c_char_p, _SIZE, c_size_t),
    "tf_options_set_default_dim_value": (_H, c_size_t),
    "tf_options_set_output_names": (_H, POINTER(c_char_p), c_size_t),
    "parse_tf": (_OUT, c_char_p, _H),
    "quantize_op_names_create": (_OUT,),
    "quantize_op_names_add": (_H, c_char_p),
    "quantize_fp16_with_op_names": (_H, _H),
    "quantize_bf16_with_op_names": (_H, _H),
    "quantize_int8_options_create": (_OUT,),
    "quantize_int8_options_add_op_name": (_H, c_char_p),
    "quantize_int8_options_add_calibration_data": (_H, _H),
    "quantize_int8": (_H, _H, _H),
    "quantize_fp8_options_create": (_OUT,),
    "quantize_fp8_options_add_calibration_data": (_H, _H),
    "quantize_fp8": (_H, _H, _H),
    "experimental_custom_op_create": (_OUT, c_void_p, c_void_p, c_void_p, c_char_p, c_char_p),
    "experimental_custom_op_set_compute": (_H, c_void_p),
    "experimental_custom_op_set_compute_shape": (_H, c_void_p),
    "experimental_custom_op_set_output_alias": (_H, c_void_p),
    "experimental_custom_op_set_runs_on_offload_target": (_H, c_void_p),
    "experimental_custom_op_register": (_H,),
}

#: Functions that take less time than releasing the GIL would, and call nothing of Python's.
_QUICK = {
    "argument_assign_to",
    "argument_buffer",
    "argument_create",
    "argument_shape",
    "arguments_get",
    "arguments_size",
    "program_parameters_add",
    "program_parameters_create",
    "shape_assign_to",
    "shape_dynamic",
    "shape_equal",
    "shape_lengths",
    "shape_strides",
    "shape_type",
    "shapes_get",
    "shapes_size",
}


class Handle:
    """Owns one object of MIGraphX's and destroys it with the last reference. ctypes takes it for the pointer."""

    __slots__ = ("__weakref__", "_as_parameter_", "_destroy")

    def __init__(self, pointer: int, kind: str) -> None:
        self._as_parameter_ = pointer
        self._destroy = function(f"{kind}_destroy")

    @property
    def pointer(self) -> int:
        """The address of the object."""
        return self._as_parameter_

    def __del__(self) -> None:
        # While the interpreter goes down, callbacks into Python (custom operators') are no longer possible.
        if not sys.is_finalizing() and hasattr(self, "_destroy"):
            self._destroy(self._as_parameter_)


@functools.cache
def function(name: str) -> Any:
    """One C function by its name without the prefix, typed.

    Raises:
        LibraryNotFoundError: there is no MIGraphX.
        MigraphxError: this release of MIGraphX has no such function.
    """
    cdll = library.load()
    source = ctypes.PyDLL(cdll._name) if name in _QUICK else cdll
    try:
        found = getattr(source, f"migraphx_{name}")
    except AttributeError as error:
        raise MigraphxError(
            f"this MIGraphX ({library.core_path().name}) has no function migraphx_{name} in its C interface"
        ) from error
    found.argtypes = (c_void_p,) if name.endswith("_destroy") else PROTOTYPES[name]
    found.restype = c_int
    return found


def has(name: str) -> bool:
    """This release of MIGraphX has the function."""
    try:
        function(name)
    except MigraphxError:
        return False
    return True


def call(name: str, *arguments: Any) -> None:
    """Call a function that can fail only by our own mistake, or whose text must not be waited for.

    Raises:
        MigraphxError: it failed; the text is on stderr.
    """
    if function(name)(*arguments):
        raise MigraphxError(f"migraphx_{name} failed; MIGraphX printed the cause on stderr")


def guarded(doing: str, name: str, *arguments: Any) -> None:
    """Call a function that may fail for what the user gave, and raise MIGraphX's own text then.

    Args:
        doing: what is tried, to complete "MIGraphX can't …".
        name: the function.
        arguments: its arguments.

    Raises:
        MigraphxError: it failed. Its cause is the exception of a custom operator written in Python, if that was it.
    """
    with callbacks.errors() as raised, messages.capture_errors() as captured:
        status = function(name)(*arguments)
    if not status:
        messages.pass_on(captured.text)
        return
    other, text = captured.split()
    messages.pass_on(other)
    raise failure(
        f"MIGraphX can't {doing}: {text or f'migraphx_{name} failed; see stderr'}", callbacks.find(raised, text)
    )


def failure(message: str, cause: BaseException | None) -> BaseException:
    """The exception to raise for a failed call: what a callback raised is its cause, or goes on as it is (Ctrl-C)."""
    if cause is not None and not isinstance(cause, Exception):
        return cause
    error = MigraphxError(message)
    error.__cause__ = cause
    return error


def new(kind: str, name: str, *arguments: Any, doing: str = "") -> Handle:
    """Create an object with a function whose first argument is where its handle goes; `doing` as in guarded."""
    out = c_void_p()
    if doing:
        guarded(doing, name, ctypes.byref(out), *arguments)
    else:
        call(name, ctypes.byref(out), *arguments)
    assert out.value is not None
    return Handle(out.value, kind)


def borrow(name: str, *arguments: Any) -> int:
    """A pointer into an object that the caller keeps alive; 0 for NULL."""
    out = c_void_p()
    call(name, ctypes.byref(out), *arguments)
    return out.value or 0


def size(name: str, *arguments: Any) -> int:
    """A number that a function gives back."""
    out = c_size_t()
    call(name, ctypes.byref(out), *arguments)
    return out.value


def truth(name: str, *arguments: Any) -> bool:
    """A bool that a function gives back."""
    out = c_bool()
    call(name, ctypes.byref(out), *arguments)
    return out.value


def sizes(values: Sequence[int]) -> ctypes.Array[c_size_t]:
    """An array of size_t."""
    return (c_size_t * len(values))(*values)


def handles(values: Sequence[Handle]) -> ctypes.Array[c_void_p]:
    """An array of handles."""
    return (c_void_p * len(values))(*(value.pointer for value in values))
