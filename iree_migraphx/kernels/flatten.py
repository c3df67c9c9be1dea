"""Workgroups of two dimensions made one, between iree-compile's choice of a configuration and its code.

For f32 products on RDNA, IREE chooses workgroups such as [32, 8, 1], which MIGraphX can't launch. In the pipeline
TileAndFuse a work-item's share follows from its linear number in the workgroup alone (GPUDistributeForall.cpp), so
[256, 1, 1] is the same kernel. Other pipelines use the dimensions one by one and are left as they are.
"""

from __future__ import annotations

import math

from iree.compiler import ir
from iree.compiler.dialects import iree_codegen

from iree_migraphx.errors import Reason, Refusal

_PIPELINE = "#iree_gpu.pipeline<TileAndFuse>"


def flatten_workgroups(configurations: str) -> str:
    """Make every workgroup of a module one-dimensional.

    Args:
        configurations: what iree-compile writes with --compile-to=executable-configurations; the result is input for
            --compile-from=executable-configurations.

    Raises:
        Refusal: BLOCK_NOT_1D where a workgroup's dimensions have a meaning of their own, BAD_COMPILER_OUTPUT where the
            text can't be read.
    """
    with ir.Context():
        try:
            module = ir.Module.parse(configurations)
        except ir.MLIRError as error:
            message = "iree-compile's configurations can't be read"
            raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"{message}: {str(error).splitlines()[0]}") from error
        for op in _configured(module):
            info = iree_codegen.TranslationInfoAttr(op.attributes["translation_info"])
            size = list(info.workgroup_size)
            if all(length == 1 for length in size[1:]):
                continue
            if str(info.pass_pipeline) != _PIPELINE:
                block = " x ".join(str(length) for length in size)
                raise Refusal(Reason.BLOCK_NOT_1D, f"{block} work-items, in the pipeline {info.pass_pipeline}")
            op.attributes["translation_info"] = iree_codegen.TranslationInfoAttr.get(
                info.pass_pipeline, info.codegen_spec, [math.prod(size), 1, 1], info.subgroup_size, info.configuration
            )
        return str(module)


def _configured(module: ir.Module) -> list[ir.Operation]:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if "translation_info" in op.attributes:
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found
