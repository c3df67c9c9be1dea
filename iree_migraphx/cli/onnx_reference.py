"""The same model in onnxruntime, for a second opinion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from iree_migraphx.errors import InputError, IreeMigraphxError


def require_onnxruntime(flag: str = "--onnxruntime") -> Any:
    """The module onnxruntime.

    Raises:
        InputError: it is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise InputError(f"{flag} needs onnxruntime; `pip install onnxruntime`") from error
    # Its warnings about the model are not about this run.
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def in_onnxruntime(path: Path, values: Mapping[str, npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
    """What onnxruntime computes for an ONNX file, on the CPU.

    Raises:
        InputError: it is not installed.
        IreeMigraphxError: it can't run the model.
    """
    runtime = require_onnxruntime()
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        ranks = {taken.name: len(taken.shape) for taken in session.get_inputs()}
        # A scalar has one dimension in MIGraphX.
        feed = {name: value if ranks[name] else value.reshape(()) for name, value in values.items()}
        results: Sequence[npt.NDArray[Any]] = session.run(None, feed)
    except Exception as error:  # its exceptions have no common base
        raise IreeMigraphxError(f"onnxruntime can't run {path}: {str(error).splitlines()[0]}") from error
    return results
