"""Programs from models: ONNX and TensorFlow."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

from iree_migraphx.binding import capi, onnx_model, serialized
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.datatypes import dynamic_dimension, dynamic_dimensions_handle
from iree_migraphx.binding.programs import program
from iree_migraphx.errors import OptionError

_Dims = Mapping[str, Sequence[int]]
_DynDims = Mapping[str, Sequence[dynamic_dimension]]


def parse_onnx(
    filename: str | os.PathLike[str],
    default_dim_value: int = 0,
    default_dyn_dim_value: dynamic_dimension | None = None,
    map_input_dims: _Dims | None = None,
    map_dyn_input_dims: _DynDims | None = None,
    skip_unknown_operators: bool = False,
    print_program_on_error: bool = False,
    max_loop_iterations: int = 10,
    limit_max_iterations: int = 65535,
    *,
    dim_params: Mapping[str, dynamic_dimension] | None = None,
) -> program:
    """Read an ONNX file.

    Args:
        filename: the file.
        default_dim_value: length of dimensions that the model leaves open; 0 takes default_dyn_dim_value.
        default_dyn_dim_value: range of dimensions that the model leaves open; {1, 1} by default.
        map_input_dims: lengths by input.
        map_dyn_input_dims: dynamic dimensions by input.
        skip_unknown_operators: not in the C interface.
        print_program_on_error: not in the C interface.
        max_loop_iterations: for loops that don't say how often they run.
        limit_max_iterations: no loop may run more often.
        dim_params: not in the C interface; map_dyn_input_dims does the same by input.

    Raises:
        MigraphxError: no such file, not ONNX, an operator that MIGraphX does not know, …
        OptionError: an option that the C interface does not have.
    """
    _refuse(
        skip_unknown_operators=skip_unknown_operators,
        print_program_on_error=print_program_on_error,
        dim_params=dim_params,
    )
    options = _onnx_options(default_dim_value, default_dyn_dim_value, map_input_dims, map_dyn_input_dims)
    capi.call("onnx_options_set_default_loop_iterations", options, max_loop_iterations)
    capi.call("onnx_options_set_limit_loop_iterations", options, limit_max_iterations)
    name = f"ONNX model {os.fspath(filename)}"
    onnx_model.check_model(serialized.view_file(filename), name)
    handle = capi.new("program", "parse_onnx", os.fsencode(filename), options, doing=f"read the {name}")
    return program.wrap(handle, False)


def parse_onnx_buffer(
    onnx_buffer: bytes,
    default_dim_value: int = 0,
    default_dyn_dim_value: dynamic_dimension | None = None,
    map_input_dims: _Dims | None = None,
    map_dyn_input_dims: _DynDims | None = None,
    skip_unknown_operators: bool = False,
    print_program_on_error: bool = False,
    external_data_path: str | os.PathLike[str] = "",
) -> program:
    """Read an ONNX model from memory; external_data_path is the folder of its external data, else as parse_onnx."""
    _refuse(skip_unknown_operators=skip_unknown_operators, print_program_on_error=print_program_on_error)
    options = _onnx_options(default_dim_value, default_dyn_dim_value, map_input_dims, map_dyn_input_dims)
    if os.fspath(external_data_path):
        capi.call("onnx_options_set_external_data_path", options, os.fsencode(external_data_path))
    data = bytes(onnx_buffer)
    name = "ONNX model in memory"
    onnx_model.check_model(data, name)
    handle = capi.new("program", "parse_onnx_buffer", data, len(data), options, doing=f"read the {name}")
    return program.wrap(handle, False)


def parse_tf(
    filename: str | os.PathLike[str],
    is_nhwc: bool = True,
    batch_size: int = 1,
    map_input_dims: _Dims | None = None,
    output_names: Sequence[str] = (),
) -> program:
    """Read a frozen TensorFlow graph.

    Args:
        filename: the file.
        is_nhwc: the graph's layout.
        batch_size: length of dimensions that the graph leaves open.
        map_input_dims: lengths by input.
        output_names: nodes to return; the last ones by default.

    Raises:
        MigraphxError: no such file, not a graph, an operator that MIGraphX does not know, …
    """
    options = capi.new("tf_options", "tf_options_create")
    capi.call("tf_options_set_nhwc", options, is_nhwc)
    capi.call("tf_options_set_default_dim_value", options, batch_size)
    for name, dims in (map_input_dims or {}).items():
        capi.call("tf_options_set_input_parameter_shape", options, name.encode(), capi.sizes(dims), len(dims))
    if output_names:
        names = (ctypes.c_char_p * len(output_names))(*(name.encode() for name in output_names))
        capi.call("tf_options_set_output_names", options, names, len(output_names))
    serialized.view_file(filename)  # can it be read
    doing = f"read the TensorFlow graph {os.fspath(filename)}"
    return program.wrap(capi.new("program", "parse_tf", os.fsencode(filename), options, doing=doing), False)


def _onnx_options(
    default_dim_value: int,
    default_dyn_dim_value: dynamic_dimension | None,
    map_input_dims: _Dims | None,
    map_dyn_input_dims: _DynDims | None,
) -> Handle:
    options = capi.new("onnx_options", "onnx_options_create")
    capi.call("onnx_options_set_default_dim_value", options, default_dim_value)
    if default_dyn_dim_value is not None:
        capi.call("onnx_options_set_default_dyn_dim_value", options, default_dyn_dim_value.handle())
    for name, dims in (map_input_dims or {}).items():
        setter = "onnx_options_set_input_parameter_shape"
        capi.call(setter, options, name.encode(), capi.sizes(dims), len(dims))
    for name, dimensions in (map_dyn_input_dims or {}).items():
        setter = "onnx_options_set_dyn_input_parameter_shape"
        capi.call(setter, options, name.encode(), dynamic_dimensions_handle(dimensions))
    return options


def _refuse(**options: object) -> None:
    for name, value in options.items():
        if value:
            raise OptionError(
                f"{name}={value!r} can't be had: MIGraphX's C interface has no such option; ROCm's Python module has"
            )
