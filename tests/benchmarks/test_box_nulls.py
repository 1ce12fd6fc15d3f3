"""The null values of three images whose boxes and crops are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import box_nulls
from benchmarks.box_nulls import join, main, measure, read_boxes, read_sizes, sizes_of_images
from stages.statistics import ratio_intervals

# Corners in the file are inclusive: 0 0 199 99 is [0, 200) x [0, 100).
SOLUTION = """ImageId,PredictionString
quarter,n1 0 0 199 99
whole,n1 0 0 255 255 n2 10 10 20 20
left,n1 0 0 99 199 n1 0 0 49 99
absent,n1 0 0 9 9
"""
SIZES = {"quarter": (400, 200), "whole": (256, 256), "left": (400, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "LOC_val_solution.csv").write_text(SOLUTION)
    for name, size in SIZES.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.JPEG")
    return tmp_path


def means(folder: Path, geometry: str) -> list[float]:
    samples = join(read_boxes(folder / "LOC_val_solution.csv"), sizes_of_images(folder))
    sums, counts = measure(samples, geometry)  # type: ignore[arg-type]
    return list(sums.sum(axis=0) / counts.sum(axis=0))


def test_squashed_nothing_is_lost_and_the_boxes_keep_their_share(folder: Path) -> None:
    # The union's area is 1/4, 1 and 1/4 of the image; F1 = 2a / (1 + a) is .4, 1 and .4.
    assert means(folder, "squash") == pytest.approx([0.5, 0.6, 0.5], abs=1e-6)


def test_the_centre_crop_cuts_boxes_or_leaves_none(folder: Path) -> None:
    # 400 x 200 becomes 512 x 256, of which the view shows columns 144 to 368 and rows 16 to 240: [112.5, 287.5) x
    # [12.5, 187.5) of the image. Of `quarter` 87.5 x 87.5 px of 200 x 100 are left, which are 112 x 112 of 224 x 224
    # px of the view; `left` ends at 100 and is out of view; `whole` is 256 px wide and keeps (224 / 256) ** 2.
    uniform = [(0.25 + 1) / 2, (0.4 + 1) / 2, (0.25 + 1) / 2]
    # `quarter` loses .617, `whole` .234, both boxes of `left` all.
    boxes, images = [4 / 4, 3 / 4, 3 / 4], [3 / 3, 2 / 3, 2 / 3]
    assert means(folder, "resize_crop") == pytest.approx([*uniform, 1 / 3, *boxes, *images], abs=1e-6)


def test_sizes_are_those_of_the_upright_image_or_of_a_table(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (30, 20)).save(folder / "turned.jpg", exif=exif)
    assert sizes_of_images(folder) == {**SIZES, "turned": (20, 30)}
    (tmp_path / "sizes.csv").write_text("ImageId,width,height\nquarter,400,200\n")
    assert read_sizes(tmp_path / "sizes.csv") == {"quarter": (400, 200)}


def test_the_interval_draws_images_and_their_boxes_come_along() -> None:
    # Two images with 1 of 1 and 0 of 3 boxes: a resample has 0 of 6, 1 of 4 or 2 of 2, with probability 1/4, 1/2, 1/4.
    low, high = ratio_intervals(np.array([[1.0], [0.0]]), np.array([[1.0], [3.0]]))
    assert (low.tolist(), high.tolist()) == ([0], [1])


def test_a_part_of_the_set_is_printed_and_judged_by_nobody(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--truth", str(folder / "LOC_val_solution.csv")]) == 0
    printed = capsys.readouterr().out
    assert "| squash | EP | 0.500 | [0.250, 1.000] | 0.480 |" in printed
    # Wilson of 1 in 3; the count of the whole set is 178 of 50,000.
    assert "| resize_crop | share of images without a box in view | 0.333 | [0.061, 0.792] | 0.004 |" in printed
    assert "3 of 50000 images" in printed


def test_the_whole_set_must_give_the_known_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_nulls, "WHOLE_SET", 3)
    assert main(["--truth", str(folder / "LOC_val_solution.csv")]) == 1
    assert "contradicts the whole set's: squash: EP is 0.50000, not 0.48000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n", "its first line must be ImageId,PredictionString"),
        ("ImageId,PredictionString\nquarter,n1 0 0 199\n", "line 2: 4 words in the PredictionString"),
        ("ImageId,PredictionString\nother,n1 0 0 199 99\n", "no image of the solution file has a size"),
    ],
)
def test_mistakes_are_told(folder: Path, capsys: pytest.CaptureFixture[str], content: str, said: str) -> None:
    (folder / "LOC_val_solution.csv").write_text(content)
    assert main(["--truth", str(folder / "LOC_val_solution.csv")]) == 2
    assert said in capsys.readouterr().err
