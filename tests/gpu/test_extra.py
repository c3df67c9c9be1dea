"""With `extra`, and kernels of the smallest rests as well: models of which nothing is left to MIGraphX."""

from functools import partial

import numpy as np
import pytest

from gpu.harness import compiled, run_on_device
from gpu.test_models import DETECTOR, MAGIKA, detector, magika
from iree_migraphx.lowering import forms
from splice.models import expected


def bytes_of_a_file():
    return {"bytes": np.random.default_rng(0).integers(0, 257, (1, 2048), np.int32)}


def marks():
    """A row of bars, which the detector takes for text; of noise its result is next to 0."""
    picture = np.ones((1, 3, 32, 32), np.float32)
    picture[:, :, 10:22, 4:-4] = np.where(np.arange(24) % 4 < 2, -1, 1)
    return {"x": picture}


#: Gather, layer norms, convolutions and dots, a maximum and a softmax; convolutions of all kinds, means and gathers.
MODELS = [
    pytest.param(magika, MAGIKA, bytes_of_a_file(), False, id="magika-device"),
    pytest.param(magika, MAGIKA, bytes_of_a_file(), True, id="magika-offload"),
    pytest.param(partial(detector, 32), DETECTOR, marks(), False, id="detector"),
]


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("model", "file", "inputs", "offload_copy"), MODELS)
def test_a_whole_model_is_ours(virtual_device, kernel_options, monkeypatch, model, file, inputs, offload_copy):
    monkeypatch.setattr(forms, "rules", partial(forms.rules, least_work=0))
    done = compiled(model(), kernel_options, virtual_device, offload_copy, extra=True)
    assert done.report.swapped == done.report.eligible, done.report.summary()
    assert len(done.launches()) == sum(i.name.startswith("gpu::") for i in done.instructions().instructions())
    (actual,) = run_on_device(done, virtual_device, inputs, offload_copy)
    (wanted,) = expected(file.read_bytes(), inputs)
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted).max() > 0.1
    assert all(launch.computed for launch in virtual_device.launches)
