"""How an anchor's loops and buffers are laid out."""

from __future__ import annotations

import enum


class Form(enum.Enum):
    """How a convolution's loops and buffers are laid out, and the matrix instructions that anchors may count on.

    Attributes:
        OPERANDS: as the operands come (NCHW): one dispatch, what GPUs want.
        FNUZ: the same, for GPUs with matrix instructions for the FNUZ 8-bit floats.
        OCP: the same, for GPUs with those for the OCP 8-bit floats.
        DENSE: as OPERANDS, for GPUs on which IREE fails at products of few rows; see products.py.
        DENSE_OCP: as DENSE, with the OCP 8-bit floats.
        CHANNELS_LAST: transposed to NHWC inside the kernel: several dispatches, but what CPUs want.
    """

    OPERANDS = "operands"
    FNUZ = "operands, fnuz"
    OCP = "operands, ocp"
    DENSE = "dense"
    DENSE_OCP = "dense, ocp"
    CHANNELS_LAST = "channels-last"

    @property
    def dense(self) -> bool:
        """Whether products of few rows have to be kept from sparse matrix instructions."""
        return self in (Form.DENSE, Form.DENSE_OCP)

    @property
    def float8(self) -> frozenset[str]:
        """The 8-bit floats that there are matrix instructions for."""
        if self is Form.FNUZ:
            return frozenset({"fp8e4m3fnuz_type", "fp8e5m2fnuz_type"})
        return frozenset({"fp8e4m3fn_type", "fp8e5m2_type"} if self in (Form.OCP, Form.DENSE_OCP) else ())
