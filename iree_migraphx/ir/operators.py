"""What constant folding has to know of MIGraphX's operators (src/include/migraphx/op of release rocm-7.1.1)."""

from __future__ import annotations

#: Result and operand share memory: the operators with an output_alias. The operand is the first input.
VIEWS = frozenset(
    {
        "broadcast",
        "identity",
        "multibroadcast",
        "reshape_lazy",
        "scalar",
        "slice",
        "squeeze",
        "step",
        "transpose",
        "unsqueeze",
    }
)

#: Views that show every byte of the operand from the first to the last.
WHOLE_VIEWS = frozenset({"identity", "reshape_lazy", "squeeze", "transpose", "unsqueeze"})

#: Copies that keep the order of the elements.
SAME_ORDER = frozenset({"contiguous", "flatten", "reshape"})

#: Sums of products: where the ref target is slowest, and what kernels are for.
PRODUCTS = frozenset({"convolution", "convolution_backwards", "dot", "quant_convolution", "quant_dot"})

#: Operators that widen weights which are stored narrow (8 or 4 bits) on purpose.
WIDENING = frozenset({"dequantizelinear", "unpack_fp4", "unpack_int4"})

_POINTWISE = """
    abs acos acosh add asin asinh atan atanh bit_cast bitwise_and ceil clip convert cos cosh div elu equal erf exp floor
    fmod greater isinf isnan leaky_relu less log log2 logical_and logical_or logical_xor max min mod mul nearbyint neg
    not pow prelu quantizelinear recip relu rsqrt sigmoid sign sin sinh sqdiff sqrt sub tan tanh where
"""
_OTHERS = """
    argmax argmin concat gather gathernd get_tuple_elem layout logsoftmax nonzero onehot pack_int4 pad pooling
    prefix_scan_sum reduce_all reduce_any reduce_max reduce_mean reduce_min reduce_prod reduce_sum resize reverse
    scatter_add scatter_max scatter_min scatter_mul scatter_none scatternd_add scatternd_max scatternd_min scatternd_mul
    scatternd_none softmax topk unique
"""

#: Operators whose result is a function of their inputs and fields alone. Not here, on purpose: those that draw random
#: numbers, write into an operand, have submodules or need a context, and every name that is not MIGraphX's own.
PURE = VIEWS | SAME_ORDER | PRODUCTS | WIDENING | frozenset(_POINTWISE.split()) | frozenset(_OTHERS.split())
