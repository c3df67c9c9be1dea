"""Real models with real weights: IREE computes what it should, and the results are onnxruntime's."""

import numpy as np
import pytest

from iree_migraphx import binding

from . import sources

LENS = {
    "det": {"x": [1, 3, 320, 320]},
    "rec": {"x": [1, 3, 48, 320]},
    "cls": {"x": [1, 3, 48, 192]},
    "magika": {"bytes": [1, 2048]},
    "light_resnet50": {},
    "seeded_resnet50": {},
}


def compare(case, inputs, scale=None):
    """Relative to `scale`, by default the largest value: f32's precision times what fifty layers can lose of it."""
    results = case.program.run(inputs)
    wanted = case.session.run(None, inputs)
    assert len(results) == len(wanted)
    for actual, expected in zip(map(np.asarray, results), wanted, strict=True):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert np.isfinite(actual).all()
        atol = 1000 * np.finfo(expected.dtype).eps * (scale or np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)
    return wanted


@pytest.mark.parametrize("name", sources.MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_noise(case, name, seed):
    # Nothing is found in noise: what the detector's sigmoid gives is far below 1, and onnxruntime's has no such digits.
    scale = 1.0 if name == "det" else None
    compare(case(name), sources.inputs_of(case(name).session, LENS[name], seed), scale)


def test_the_detector_sees_writing(case):
    (wanted,) = compare(case("det"), {"x": sources.writing(320, 320, 6)})
    assert wanted.max() > 0.5


def test_the_recogniser_reads(case):
    (wanted,) = compare(case("rec"), {"x": sources.writing(48, 320, 4)})
    assert (wanted.argmax(axis=2) != 0).sum() > 2
    (actual,) = case("rec").program.run({"x": sources.writing(48, 320, 4)})
    np.testing.assert_array_equal(np.asarray(actual).argmax(axis=2), wanted.argmax(axis=2))


def test_the_classifier_tells_which_way_up(case):
    upright = sources.writing(48, 192, 4)
    (up,) = compare(case("cls"), {"x": upright})
    (down,) = compare(case("cls"), {"x": upright[:, :, ::-1, ::-1].copy()})
    assert np.abs(up - down).max() > 0.05


def test_magika_knows_python_from_noise(case):
    text = (b"import os\nimport sys\n\ndef main():\n    print(os.environ)\n\n" * 40)[:2048]
    (python,) = compare(case("magika"), {"bytes": np.frombuffer(text, np.uint8).astype(np.int32).reshape(1, -1)})
    (noise,) = compare(case("magika"), sources.inputs_of(case("magika").session, LENS["magika"]))
    assert python.argmax() != noise.argmax()


def test_seeded_resnet_tells_images_apart(case):
    first, second = (
        compare(case("seeded_resnet50"), sources.inputs_of(case("seeded_resnet50").session, {}, seed))[0]
        for seed in (2, 3)
    )
    assert np.abs(first - second).max() > 0.01 * first.max()
    assert first.std() > 0.1 * first.mean()


@pytest.mark.parametrize("name", sources.MODELS)
def test_every_convolution_and_dot_is_in_a_kernel_of_iree(case, name):
    found = case(name)
    left = [(s.name, s.reason, s.detail) for s in found.report.subgraphs if s.provider != "iree"]
    assert left == []
    assert len(found.subgraphs("convolution")) == found.nodes("Conv")
    assert len(found.subgraphs("convolution_backwards")) == found.nodes("ConvTranspose")
    # The two dots of an attention are one kernel.
    assert sum(s.operators.count("dot") for s in found.report.subgraphs) == found.nodes("MatMul", "Gemm")
    text = repr(found.program)
    assert not [word for word in ("ref::convolution", "ref::dot", "convolution[", "dot[", "gemm") if word in text]


@pytest.mark.parametrize(("name", "kernels"), [("light_resnet50", 28), ("seeded_resnet50", 28)])
def test_equal_layers_of_resnet_share_kernels(case, name, kernels):
    report = case(name).report
    assert (len(case(name).subgraphs("convolution")), len(case(name).subgraphs("dot"))) == (53, 1)
    assert report.distinct <= kernels
    # Two poolings and the softmax.
    assert report.swapped == report.eligible == 57


@pytest.mark.parametrize("name", ["light_resnet50", "det"])
def test_nothing_is_left_to_migraphx(case, name):
    """So no share of a run is in operators of its own."""
    assert "ref::" not in repr(case(name).program)


def test_weights_do_not_change_the_kernels_of_resnet(case):
    light, seeded = ({s.key for s in case(name).report.subgraphs} for name in ("light_resnet50", "seeded_resnet50"))
    assert light == seeded


def test_a_second_run_gives_the_same_and_leaves_the_first_alone(case):
    """Results, inputs and scratch memory are not mixed up between runs."""
    found = case("cls")
    first, second = (sources.inputs_of(found.session, LENS["cls"], seed) for seed in (4, 5))
    before = found.program.run(first)[0]
    copy = np.array(before)
    other = found.program.run(second)[0]
    assert not np.array_equal(np.asarray(other), copy)
    np.testing.assert_array_equal(np.asarray(before), copy)
    np.testing.assert_array_equal(np.asarray(found.program.run(first)[0]), copy)


def test_a_compiled_model_is_saved_and_loaded(case, tmp_path):
    found = case("cls")
    binding.save(found.program, tmp_path / "cls.mxr")
    inputs = sources.inputs_of(found.session, LENS["cls"], 6)
    actual = binding.load(tmp_path / "cls.mxr").run(inputs)[0]
    np.testing.assert_array_equal(np.asarray(actual), np.asarray(found.program.run(inputs)[0]))
