"""Real models on the virtual GPU. MIGraphX's own kernels can't be computed there, so each launch of ours is checked by
itself: its result must be what MIGraphX's ref target computes of the very buffers it was given.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gpu.by_ref import ByRef
from gpu.harness import compiled
from gpu.test_swap import assert_loads_without_us
from iree_migraphx import binding
from iree_migraphx.ir.model import DTYPES

RESNET = Path(find_spec("onnx").origin).parent / "backend/test/data/light/light_resnet50.onnx"
SITE = Path(find_spec("magika").origin).parent.parent
MAGIKA = SITE / "magika/models/standard_v3_3/model.onnx"
CLASSIFIER = SITE / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
DETECTOR = next((SITE / "rapidocr_onnxruntime/models").glob("*_det_*.onnx"))


def classifier():
    return binding.parse_onnx(str(CLASSIFIER), map_input_dims={"x": [1, 3, 48, 32]})


def detector(size=64):
    return binding.parse_onnx(str(DETECTOR), map_input_dims={"x": [1, 3, size, size]})


def whole_detector():
    return detector(320)


def light_resnet50():
    return binding.parse_onnx(str(RESNET))


def magika():
    return binding.parse_onnx(str(MAGIKA))


WHOLE = [
    pytest.param(model, precision, marks=pytest.mark.whole_model)
    for model in (magika, detector, whole_detector, light_resnet50)
    for precision in ("half", "float")
    if (model, precision) != (detector, "float")
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("model", "precision"), [(classifier, "half"), (detector, "float"), *WHOLE])
def test_each_launch(virtual_device, kernel_options, model, precision, tmp_path):
    """Every convolution and dot is ours, and right; the saved program loads without us."""
    program = model()
    if precision == "half":
        binding.quantize_fp16(program)
    by_ref = ByRef()
    done = compiled(program, kernel_options, virtual_device, offload_copy=True, observing=by_ref.observing)
    report = done.report
    assert report.swapped == report.eligible >= 3, report.summary()
    random = np.random.default_rng(0)
    inputs = {
        name: random.integers(0, 255, shape.lens()).astype(DTYPES[shape.type_string()])
        if shape.type_string().startswith("int")
        else random.standard_normal(shape.lens()).astype(DTYPES[shape.type_string()])
        for name, shape in done.program.get_parameter_shapes().items()
    }
    done.program.run(inputs)
    assert by_ref.wrong == []
    assert by_ref.checked == report.swapped
    print(f"{by_ref.checked} launches right, {by_ref.whole} compared whole; {by_ref.not_finite} infinities and NaN")
    binding.save(done.program, tmp_path / "model.mxr")
    assert_loads_without_us(tmp_path / "model.mxr")


def test_a_program_that_migraphx_can_not_compile_again(virtual_device, kernel_options):
    """Debian's build ends the process over an assertion where magika's model was optimised, and taken apart, before."""
    done = compiled(binding.parse_onnx(str(MAGIKA)), kernel_options, virtual_device, compute=False)
    assert (done.report.eligible, done.report.swapped) == (3, 3)
    assert "the parsed one was taken instead" in done.report.note
