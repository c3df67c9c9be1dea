"""IREE's Python bindings, imported when something is first taken from them.

Only building a module needs them. What the lowering supports, which the partition asks, is known without: so a program
whose kernels are all cached needs neither the tenth of a second that the import takes, nor an installed compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iree.compiler import ir
    from iree.compiler.dialects import affine, arith, func, linalg, math, tensor, util
else:

    class _Deferred:
        """A module that is imported at the first use of an attribute.

        Args:
            name: the module's name.
        """

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(importlib.import_module(self._name), attribute)
            # From now on it is found here.
            setattr(self, attribute, value)
            return value

    ir = _Deferred("iree.compiler.ir")
    affine = _Deferred("iree.compiler.dialects.affine")
    arith = _Deferred("iree.compiler.dialects.arith")
    func = _Deferred("iree.compiler.dialects.func")
    linalg = _Deferred("iree.compiler.dialects.linalg")
    math = _Deferred("iree.compiler.dialects.math")
    tensor = _Deferred("iree.compiler.dialects.tensor")
    util = _Deferred("iree.compiler.dialects.util")

__all__ = ["affine", "arith", "func", "ir", "linalg", "math", "tensor", "util"]
