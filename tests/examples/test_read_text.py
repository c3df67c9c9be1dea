"""Finding and reading text: the parts, and PP-OCRv4 on drawn pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from iree_migraphx.options import Options

pytest.importorskip("PIL", reason="the example needs Pillow")
pytest.importorskip("scipy", reason="the example needs SciPy")

import read_text
import text_boxes
from PIL import Image

LINES = ["what you see", "reads 2026"]


@pytest.fixture
def picture(tmp_path: Path, settings: pytest.MonkeyPatch, kernel_options: Options) -> Path:
    """Two lines on a picture of the size that tests/models has kernels for."""
    settings.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_options.cache_dir))
    whole = Image.new("RGB", (320, 320), "white")
    whole.paste(read_text.draw(LINES, 32), (0, 60))
    whole.save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_reads_what_was_drawn(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_text.main([str(picture), "--save", str(tmp_path / "boxes.png")]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [text for _, text in lines] == LINES
    assert all(float(sure) > 0.8 for sure, _ in lines)
    assert Image.open(tmp_path / "boxes.png").size == (320, 320)


def test_finds_nothing_on_an_empty_picture(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (320, 320), 255).save(tmp_path / "empty.png")
    assert read_text.main([str(tmp_path / "empty.png")]) == 1
    assert capsys.readouterr().out == ""


def test_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_text.main([str(tmp_path / "none.png")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert read_text.main(["--draw", "a", "--models", str(tmp_path)]) == 2
    assert f"there is no *_det_*.onnx in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("angle", [0, 10, -30])
def test_boxes_are_around_the_text_and_as_it_is_turned(angle: float) -> None:
    down, across = np.mgrid[:100, :200]
    turn = np.deg2rad(angle)
    along = (across - 100) * np.cos(turn) + (down - 50) * np.sin(turn)
    beside = -(across - 100) * np.sin(turn) + (down - 50) * np.cos(turn)
    scores = np.where((abs(along) < 40) & (abs(beside) < 5), 0.9, 0.01)
    (box,) = text_boxes.find_boxes(scores, grow=0.0)
    assert box.score == pytest.approx(0.9, abs=0.15)
    assert box.size == pytest.approx((80, 11), abs=3)
    right = box.corners[1] - box.corners[0]
    assert np.rad2deg(np.arctan2(right[1], right[0])) == pytest.approx(angle, abs=2)
    (grown,) = text_boxes.find_boxes(scores)
    # area * 1.6 / perimeter on every side
    added = 2 * 1.6 * np.prod(box.size) / (2 * sum(box.size))
    assert grown.size == pytest.approx((box.size[0] + added, box.size[1] + added))
    assert grown.corners.mean(axis=0) == pytest.approx(box.corners.mean(axis=0))


def test_faint_and_tiny_spots_are_no_text() -> None:
    scores = np.zeros((60, 60))
    scores[10:20, 10:50] = 0.35
    scores[40:41, 10:11] = 0.99
    assert text_boxes.find_boxes(scores) == []


def test_boxes_come_as_they_are_read() -> None:
    scores = np.zeros((100, 200))
    for down, across in ((12, 120), (10, 20), (60, 20), (62, 120)):
        scores[down : down + 10, across : across + 60] = 0.9
    order = [tuple(box.corners.mean(axis=0).round().astype(int)) for box in text_boxes.find_boxes(scores)]
    assert [(across > 100, down > 50) for across, down in order] == [
        (False, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip


def test_repeated_letters_need_a_gap() -> None:
    def scores(*classes: int) -> np.ndarray:
        return np.eye(4)[list(classes)] * 0.6 + 0.1

    assert text_boxes.decode(scores(1, 1, 0, 1, 2, 2, 0, 3), "abc")[0] == "aabc"
    assert text_boxes.decode(scores(0, 0), "abc") == ("", 0.0)
    assert text_boxes.decode(scores(2), "abc")[1] == pytest.approx(0.7)
