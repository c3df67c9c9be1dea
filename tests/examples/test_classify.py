"""The image classifier: on models whose answers are known."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from iree_migraphx.options import Options
from models import sources

pytest.importorskip("PIL", reason="the example needs Pillow")

import classify
from PIL import Image

LIKE_OCR = ("--mean", "0.5", "0.5", "0.5", "--deviation", "0.5", "0.5", "0.5")


@pytest.fixture(autouse=True)
def kernels(settings: pytest.MonkeyPatch, kernel_options: Options) -> None:
    """Those of tests/models, which are the same."""
    settings.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_options.cache_dir))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PP-OCRv4's classifier of which way up a line is, and a line both ways."""
    folder = tmp_path_factory.mktemp("classify")
    onnx.save(sources.MODELS["cls"]()[0], folder / "cls.onnx")
    values = sources.writing(48, 192, 4)[0].transpose(1, 2, 0)
    pixels = np.uint8((values + 1) * 127.5)
    Image.fromarray(pixels).save(folder / "up.png")
    Image.fromarray(pixels[::-1, ::-1]).save(folder / "down.png")
    (folder / "labels.txt").write_text("upright\nupside down\n")
    return folder


def test_tells_which_way_up_as_onnxruntime_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [folder / "up.png", folder / "down.png"]
    words = [folder / "cls.onnx", *pictures, "--labels", folder / "labels.txt", "--size", 48, 192, *LIKE_OCR]
    assert classify.main(list(map(str, words))) == 0
    out = capsys.readouterr().out
    session = onnxruntime.InferenceSession(folder / "cls.onnx", providers=["CPUExecutionProvider"])
    wanted = []
    for picture in pictures:
        values = classify.prepare(Image.open(picture), (48, 192), [0.5] * 3, [0.5] * 3)
        (chances,) = session.run(None, {"x": values})[0]
        lines = [(chances[index], ["upright", "upside down"][index]) for index in np.argsort(-chances)]
        wanted += [f"{picture}:", *(f"  {chance:7.2%}  {label}" for chance, label in lines)]
    assert out.splitlines() == wanted
    first = [line.split("  ")[-1] for line in out.splitlines()[1::3]]
    assert first == ["upright", "upside down"]


def test_prints_the_top_five_of_a_thousand(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(sources.light_resnet50()[0], tmp_path / "resnet.onnx")
    (tmp_path / "labels.txt").write_text("".join(f"thing {index}\n" for index in range(1000)))
    words = [tmp_path / "resnet.onnx", folder / "up.png", "--labels", tmp_path / "labels.txt"]
    assert classify.main(list(map(str, words))) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    # Its weights are all alike, so every class is as likely.
    assert [re.split(r" {2,}", line.strip()) for line in lines] == [["0.10%", f"thing {index}"] for index in range(5)]


def test_a_picture_is_covered_and_cut_in_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = (255, 0, 0)
    values = classify.prepare(Image.fromarray(pixels), (10, 10), (0, 0, 0), (1, 1, 1))
    assert values.shape == (1, 3, 10, 10)
    assert np.array_equal(values[0, :, 5, 5], [1, 0, 0])
    assert values[0, 0].min() > 0.4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/cls.onnx", "{folder}/up.png"], "leaves height and width of x open; give --size"),
        (["{folder}/cls.onnx", "{folder}/no.png", "--size", "48", "192"], "No such file"),
        (["{folder}/cls.onnx", "{folder}/labels.txt", "--size", "48", "192"], "cannot identify image file"),
        (["{folder}/up.png", "{folder}/up.png"], "is not an ONNX model"),
        (
            ["{folder}/cls.onnx", "{folder}/up.png", "--size", "48", "192", "--labels", "{folder}/up.png.txt"],
            "up.png.txt",
        ),
    ],
)
def test_says_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert classify.main([word.format(folder=folder) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_labels_of_another_model_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "three.txt").write_text("a\nb\nc\n")
    words = [folder / "cls.onnx", folder / "up.png", "--size", 48, 192, "--labels", tmp_path / "three.txt"]
    assert classify.main(list(map(str, words))) == 2
    assert "has 3 lines, but the model tells 2 classes apart" in capsys.readouterr().err
