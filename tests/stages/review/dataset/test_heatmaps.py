from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.geometry import fitted
from stages.review.dataset.heatmaps import write_heatmaps
from storage.maps import MapAttributes
from tests.stages.review.synthetic import GRID, Planted, cue_box, make_run, view_of

WIDE = Planted("wide.png", 480, 320, cell=(1, 5))
TALL = Planted("tall.png", 300, 450, cell=(5, 1))
BROKEN = Planted("broken.png", status="unreadable")


def write(directory: Path, geometry: str, planted: list[Planted], long_side: int = 512, threads: int = 2):
    run = make_run(directory, planted, geometry)
    return write_heatmaps(
        run.local_path("heatmaps"),
        run.maps("label"),
        list(range(len(planted))),
        [view_of(one, geometry) for one in planted],
        long_side=long_side,
        threads=threads,
    )


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_a_heatmap_is_an_8_bit_grey_image_of_the_whole_photo_brightest_on_the_cue(tmp_path: Path, geometry: str):
    for one, heatmap in zip([WIDE, TALL], write(tmp_path, geometry, [WIDE, TALL]), strict=True):
        assert heatmap is not None
        image = Image.open(heatmap)
        assert (image.mode, image.size) == ("L", (one.width, one.height))
        pixels = np.asarray(image)
        assert pixels.max() >= 254
        y, x = np.nonzero(pixels >= 250)
        x0, y0, x1, y1 = cue_box(one, geometry)
        assert x0 <= x.min() < x.max() < x1
        assert y0 <= y.min() < y.max() < y1


def test_nothing_is_drawn_where_a_centre_crop_saw_nothing(tmp_path: Path):
    # 480 x 320 is resized to 384 x 256 and cropped to 224: columns 80/.8 = 100 to 380 are seen, rows 20 to 300.
    (heatmap,) = write(tmp_path, "resize_crop", [Planted("edge.png", 480, 320, cell=(0, 0))])
    assert heatmap is not None
    pixels = np.asarray(Image.open(heatmap))
    assert pixels[20, 100] == 255
    assert not pixels[:20].any()
    assert not pixels[:, :100].any()


def test_the_same_map_is_written_once_and_a_second_time_not_at_all(tmp_path: Path):
    first = write(tmp_path, "squash", [WIDE, TALL, Planted("twin.png", 480, 320, cell=(1, 5))])
    paths = [heatmap for heatmap in first if heatmap]
    assert paths[0] == paths[2] != paths[1]
    times = [path.stat().st_mtime_ns for path in paths]
    again = write(tmp_path, "squash", [WIDE, TALL, Planted("twin.png", 480, 320, cell=(1, 5))])
    assert [heatmap for heatmap in again if heatmap] == paths
    assert [path.stat().st_mtime_ns for path in paths] == times
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted({path.name for path in paths})


def test_another_geometry_or_size_of_the_same_map_has_another_name(tmp_path: Path):
    names = {
        heatmap.name
        for geometry, side in (("squash", 512), ("resize_crop", 512), ("squash", 256))
        for heatmap in write(tmp_path, geometry, [WIDE], long_side=side)
        if heatmap
    }
    assert len(names) == 3


def test_a_map_that_was_not_computed_has_no_heatmap_and_a_constant_one_a_black_one(tmp_path: Path):
    run = make_run(tmp_path, [WIDE, BROKEN, TALL], "squash")
    run.maps("label", mode="r+").write(2, np.ones((1, GRID, GRID), np.float32))
    views = [view_of(one, "squash") for one in (WIDE, BROKEN, TALL)]
    first, second, third = write_heatmaps(
        run.local_path("heatmaps"), run.maps("label"), [0, 1, 2], views, long_side=64, threads=1
    )
    assert first is not None
    assert second is None
    assert third is not None
    assert not np.asarray(Image.open(third)).any()


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(1024, 512, (256, 512)), (200, 100, (100, 200)), (10_000, 3, (1, 512))]
)
def test_a_canvas_keeps_the_aspect_and_is_never_larger_than_the_image(
    width: int, height: int, expected: tuple[int, int]
):
    assert fitted(width, height, 512) == expected


def test_a_damaged_heatmap_is_written_again(tmp_path: Path):
    first = write(tmp_path, "resize_crop", [WIDE, TALL])
    assert write(tmp_path, "resize_crop", [WIDE, TALL]) == first
    assert first[0] is not None
    whole = first[0].read_bytes()
    first[0].write_bytes(b"")
    assert write(tmp_path, "resize_crop", [WIDE, TALL]) == first
    assert first[0].read_bytes() == whole


def test_rows_in_any_order_and_number_get_their_own_heatmaps(tmp_path: Path):
    # More than a batch of them, so that several threads write.
    run = make_run(tmp_path, [WIDE], "squash")
    count = 150
    maps = run.create_maps(MapAttributes("many", "label", size=224), rows=count, grid=(2, 2))
    maps.write(0, np.arange(count, dtype=np.float32)[:, None, None] * [[[0, 0], [0, 1]]] + [[[1, 0], [0, 0]]])
    rows = np.random.default_rng(0).permutation(count).tolist()
    views = [view_of(Planted("x.png", 100 + row, 100), "squash") for row in rows]
    heatmaps = write_heatmaps(run.local_path("heatmaps"), maps, rows, views, long_side=300, threads=3)
    shapes = [np.asarray(Image.open(heatmap)).shape for heatmap in heatmaps if heatmap]
    assert shapes == [(100, 100 + row) for row in rows]
