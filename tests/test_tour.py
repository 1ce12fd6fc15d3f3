"""The notebook ``docs/tour.ipynb`` on a run whose maps are known. Its cells are run here, without a Jupyter kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.stages.review.synthetic import GRID, SIZE, Planted, cue_box, make_run

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
# Maps of a squashed view: the hot cell (row, column) of each.
PLANTED = [
    Planted("a.png", 400, 300, cell=(1, 5)),
    Planted("b.png", 300, 450, cell=(4, 2), label=1, predicted=1),
    Planted("gone.png", status="unreadable"),
]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the notebook's cells define, run one after another on ``runs/demo``."""
    make_run(tmp_path, PLANTED, name="demo")
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    defined: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), defined)
    yield defined
    plt.close("all")


def test_maps_are_found_by_sample_in_pixels_of_the_view(names: dict[str, Any]) -> None:
    maps = names["maps"]
    assert maps.dims == ("row", "y", "x")
    assert maps.sample_id.values.tolist() == ["a.png", "b.png", "gone.png"]
    hot = names["by_name"].sel(sample_id="b.png").compute().stack(cell=("y", "x")).idxmax("cell").item()
    step = SIZE / GRID
    assert hot == (4.5 * step, 2.5 * step)  # the centre of cell (4, 2)
    assert maps.isel(row=2).isnull().all()
    assert names["one"].max() == 1
    assert maps.attrs["method"] == "opti_cam"


def test_zarr_and_xarray_find_the_maps_by_themselves(names: dict[str, Any]) -> None:
    maps = names["maps"].values
    np.testing.assert_array_equal(names["array"][:], maps)
    np.testing.assert_array_equal(names["both_targets"]["label"].values, maps)
    assert set(names["both_targets"]) == {"label", "predicted"}
    np.testing.assert_array_equal(names["all_methods"]["opti_cam/label"].values, maps)


def test_scores_are_grouped_by_the_labels_of_their_samples(names: dict[str, Any]) -> None:
    assert sorted(names["labels"]["label"]) == ["cat", "cat", "dog"]
    assert set(names["worth"].index) == {"cat", "dog"}


def test_the_map_of_a_batch_lies_on_its_image(names: dict[str, Any]) -> None:
    images, saliency, labels = names["images"], names["saliency"], names["names"]
    assert list(labels) == ["cat", "dog"]
    assert images.shape == (2, 3, SIZE, SIZE)
    for one, image, shown in zip(PLANTED, images, saliency, strict=False):
        y, x = np.unravel_index(int(shown.argmax()), shown.shape)
        x0, y0, x1, y1 = cue_box(one, "squash")
        assert x0 <= x * one.width / SIZE <= x1
        assert y0 <= y * one.height / SIZE <= y1
        # The cue is drawn greener than red there, and nowhere else.
        assert image[1, y, x] > image[0, y, x] + 20
