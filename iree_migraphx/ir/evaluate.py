"""MIGraphX's ref target as the calculator of constant folding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx import binding


def evaluate_with_ref(program: bytes) -> list[npt.NDArray[Any]]:
    """Compile a serialized program without inputs for the ref target, run it once, and give its outputs.

    Raises:
        MigraphxError: MIGraphX refuses it.
    """
    loaded = binding.load_buffer(program)
    loaded.compile(binding.get_target("ref"))
    return [np.asarray(output) for output in loaded.run({})]
