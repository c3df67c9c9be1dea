"""How an anchor's loops and buffers are laid out."""

from __future__ import annotations

import enum


class Form(enum.Enum):
    """How a convolution's loops and buffers are laid out.

    Attributes:
        OPERANDS: as the operands come (NCHW): one dispatch, what GPUs want.
        CHANNELS_LAST: transposed to NHWC inside the kernel: several dispatches, but what CPUs want.
    """

    OPERANDS = "operands"
    CHANNELS_LAST = "channels-last"
