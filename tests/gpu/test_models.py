"""Real models on the virtual GPU. MIGraphX's own kernels can't be computed there, so each launch of ours is checked by
itself: its result must be what MIGraphX's ref target computes of the very buffers it was given.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from gpu.harness import compiled
from iree_migraphx import binding
from programs import body_of, loaded, strided
from virtual_hip.device import KernelSpec

SITE = Path(find_spec("magika").origin).parent.parent
MAGIKA = SITE / "magika/models/standard_v3_3/model.onnx"
CLASSIFIER = SITE / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def checked_by_ref(device, done):
    """Tell the device to check each launch; gives the list that the largest difference of each gets into."""
    differences = []
    for subgraph in {s.key: s for s in done.subgraphs if s.key in done.kernels}.values():
        kernel = done.kernels[subgraph.key]
        spec = device._spec(kernel.symbol, kernel.code_object)
        body = loaded(body_of(subgraph))
        body.compile(binding.get_target("ref"))
        shapes = [*(parameter.shape for parameter in subgraph.parameters), subgraph.result_shape]

        def compute(buffers, spec=spec, body=body, shapes=shapes, operands=kernel.operands):
            spec.compute(buffers)
            values = [
                strided(buffer.view(shapes[index].dtype), shapes[index])
                for index, buffer in zip(operands, buffers, strict=True)
            ]
            given = {f"x{index}": np.zeros(shape.lens, shape.dtype) for index, shape in enumerate(shapes[:-1])}
            given |= {
                f"x{index}": value.copy()
                for index, value in zip(operands, values, strict=True)
                if index < len(shapes) - 1
            }
            (wanted,) = body.run(given)
            wanted, actual = np.asarray(wanted, np.float64), values[operands.index(len(shapes) - 1)].astype(np.float64)
            known = np.isfinite(wanted) & np.isfinite(actual)
            scale = np.abs(wanted[known]).max(initial=1.0)
            differences.append(np.abs(wanted - actual)[known].max(initial=0.0) / scale)

        device.register(kernel.symbol, KernelSpec(spec.sizes, compute, workgroups=spec.workgroups), kernel.code_object)
    return differences


def test_each_launch(virtual_device, kernel_options):
    """PP-OCR's classifier of directions in half precision: every convolution and dot is ours, and right."""
    program = binding.parse_onnx(str(CLASSIFIER), map_input_dims={"x": [1, 3, 48, 32]})
    binding.quantize_fp16(program)
    done = compiled(program, kernel_options, virtual_device, offload_copy=True)
    assert done.report.swapped == done.report.eligible >= 50, done.report.summary()
    differences = checked_by_ref(virtual_device, done)
    done.program.run({"x": np.random.default_rng(0).standard_normal((1, 3, 48, 32)).astype(np.float32)})
    assert len(differences) == done.report.swapped
    assert max(differences) < 2e-2


def test_a_program_that_migraphx_can_not_compile_again(virtual_device, kernel_options):
    """Debian's build ends the process over an assertion where magika's model was optimised, and taken apart, before."""
    done = compiled(binding.parse_onnx(str(MAGIKA)), kernel_options, virtual_device, compute=False)
    assert (done.report.eligible, done.report.swapped) == (3, 3)
    assert "the parsed one was taken instead" in done.report.note
