"""How an anchor's loops and buffers are laid out."""

from __future__ import annotations

import enum


class Form(enum.Enum):
    """How a convolution's loops and buffers are laid out.

    Attributes:
        OPERANDS: as the operands come (NCHW): one dispatch, what GPUs want.
        DENSE: the same, for GPUs on which IREE fails at products of few rows; see products.py.
        CHANNELS_LAST: transposed to NHWC inside the kernel: several dispatches, but what CPUs want.
    """

    OPERANDS = "operands"
    DENSE = "dense"
    CHANNELS_LAST = "channels-last"
