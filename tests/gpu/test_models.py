"""Real models on the virtual GPU. MIGraphX's own kernels can't be computed there, so each launch of ours is checked by
itself: its result must be what MIGraphX's ref target computes of the very buffers it was given.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gpu.harness import compiled
from gpu.test_memory import alive_bytes, scratch_bytes
from gpu.test_swap import assert_loads_without_us
from iree_migraphx import binding
from iree_migraphx.ir.model import DTYPES
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


def classifier():
    return binding.parse_onnx(str(CLASSIFIER), map_input_dims={"x": [1, 3, 48, 32]})


def magika():
    return binding.parse_onnx(str(MAGIKA))


WHOLE = [pytest.param(magika, precision, marks=pytest.mark.whole_model) for precision in ("half", "float")]


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("model", "precision"), [(classifier, "half"), *WHOLE])
def test_each_launch(virtual_device, kernel_options, model, precision, tmp_path):
    """Every convolution and dot is ours, and right; the saved program loads without us, and wastes little memory."""
    program = model()
    if precision == "half":
        binding.quantize_fp16(program)
    done = compiled(program, kernel_options, virtual_device, offload_copy=True)
    report = done.report
    assert report.swapped == report.eligible >= 3, report.summary()
    differences = checked_by_ref(virtual_device, done)
    random = np.random.default_rng(0)
    inputs = {
        name: random.integers(0, 255, shape.lens()).astype(DTYPES[shape.type_string()])
        if shape.type_string().startswith("int")
        else random.standard_normal(shape.lens()).astype(DTYPES[shape.type_string()])
        for name, shape in done.program.get_parameter_shapes().items()
    }
    done.program.run(inputs)
    assert len(differences) == report.swapped
    assert max(differences) < (2e-2 if precision == "half" else 1e-4)
    made = done.instructions()
    # It is MIGraphX's plan: 1.07 for the classifier, 1.25 for magika in float.
    assert scratch_bytes(made) <= 1.3 * alive_bytes(made)
    binding.save(done.program, tmp_path / "model.mxr")
    assert_loads_without_us(tmp_path / "model.mxr")


def test_a_program_that_migraphx_can_not_compile_again(virtual_device, kernel_options):
    """Debian's build ends the process over an assertion where magika's model was optimised, and taken apart, before."""
    done = compiled(binding.parse_onnx(str(MAGIKA)), kernel_options, virtual_device, compute=False)
    assert (done.report.eligible, done.report.swapped) == (3, 3)
    assert "the parsed one was taken instead" in done.report.note
