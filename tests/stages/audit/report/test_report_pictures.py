from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from stages.audit.audit import audit
from stages.audit.report import gather, pictures
from stages.audit.report.alt_text import image_in_words, map_in_words
from stages.audit.report.pictures import OUT_OF_VIEW, Picture, close_up, compose
from stages.audit.settings import AuditSettings
from stages.geometry import ViewTransform
from tests.stages.audit.report.conftest import GREY, write_hot_cell

IMAGE = Image.new("RGB", (480, 320), (GREY, GREY, GREY))


def hot(row: int, column: int) -> np.ndarray:
    """A view's map, 224 px: one cell of 7 x 7 is one, without interpolation."""
    view = np.zeros((224, 224), np.float32)
    view[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 1
    return view


def changed(picture: Image.Image, plain: Image.Image) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the pixels that differ by more than interpolation and JPEG leave at edges."""
    difference = np.abs(np.asarray(picture, float) - np.asarray(plain, float)).sum(axis=2)
    y, x = np.nonzero(difference > 0.6 * difference.max())
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def brightest(picture: Picture) -> tuple[int, int]:
    """x and y of the brightest pixel of a picture of 240 x 160 px."""
    kind, _, content = picture.uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert shown.size == (picture.width, picture.height) == (240, 160)
    values = np.asarray(shown, float).sum(axis=2)
    y, x = np.unravel_index(values.argmax(), values.shape)
    return int(x), int(y)


# By hand. The image of 480 x 320 px is shown at 240 x 160, so a thumbnail's pixel is two of the image's.
# squash: a cell is 480/7 x 320/7 px; cell (1, 5) covers x 342.9 to 411.4, y 45.7 to 91.4.
# resize_crop: resized by .8 to 384 x 256, cropped from (80, 16); cell (1, 5) covers view x 160 to 192, y 32 to 64,
# that is x (160 + 80) / .8 = 300 to 340 and y (32 + 16) / .8 = 60 to 100.
PLACES = {"squash": (171.4, 22.9, 205.7, 45.7), "resize_crop": (150.0, 30.0, 170.0, 50.0)}


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_a_hot_cell_lies_where_the_network_saw_it(geometry: str) -> None:
    view = ViewTransform.make(geometry, 480, 320, size=224, resize=256)
    with_map, without = (compose(IMAGE, view, cell) for cell in (hot(1, 5), np.zeros((224, 224), np.float32)))
    assert with_map.size == (240, 160)
    assert changed(with_map, without) == pytest.approx(PLACES[geometry], abs=1.0)


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_the_stored_map_reaches_the_page_s_pixels(build, picture, geometry: str) -> None:
    run = build({**picture("x.png"), "outside_effect": 0.6})
    write_hot_cell(run, 1, (1, 5), geometry)
    audit(run, AuditSettings())
    shown = gather(run).rules[0].cards[0].shown
    assert shown.map is not None
    x, y = brightest(shown.map)
    x0, y0, x1, y1 = PLACES[geometry]
    assert x0 <= x <= x1
    assert y0 <= y <= y1


def test_the_map_of_the_outside_stands_beside_that_of_the_class(build, picture) -> None:
    run = build({**picture("x.png"), "outside_effect": 0.6, "p_full": 0.9, "p_hide_outside_map": 0.25})
    write_hot_cell(run, 1, (3, 3))
    write_hot_cell(run, 1, (1, 5), method="opti_cam.outside")
    audit(run, AuditSettings())
    contents = gather(run)
    shown = contents.rules[0].cards[0].shown
    assert shown.map is not None
    assert shown.outside is not None
    # Cell (3, 3) is the middle of the thumbnail: 240 x 3.5 / 7 by 160 x 3.5 / 7.
    assert brightest(shown.map) == pytest.approx((120, 80), abs=18)
    x, y = brightest(shown.outside)
    x0, y0, x1, y1 = PLACES["squash"]
    assert x0 <= x <= x1
    assert y0 <= y <= y1
    assert shown.outside.alt == (
        "The map of what outside the boxes carries mug on x.png: hiding its strongest tenth takes p from .90 to .25"
    )
    assert contents.has_outside


def test_a_map_of_the_outside_that_the_last_run_did_not_ask_for_is_not_shown(build, picture) -> None:
    run = build({**picture("x.png"), "outside_effect": 0.6, "p_hide_outside_map": None})
    write_hot_cell(run, 1, (3, 3))
    write_hot_cell(run, 1, (1, 5), method="opti_cam.outside")
    audit(run, AuditSettings())
    contents = gather(run)
    assert contents.rules[0].cards[0].shown.outside is None
    assert not contents.has_outside


def test_what_a_crop_kept_from_the_network_is_dark() -> None:
    # As above, the view shows x from 80 / .8 = 100 to 380: thumbnail 50 to 190; y from 20 to 300: thumbnail 10 to 150.
    view = ViewTransform.make("resize_crop", 480, 320, size=224, resize=256)
    shown = np.asarray(compose(IMAGE, view, np.zeros((224, 224), np.float32)))
    assert (shown[20, 51:189] == GREY).all()
    assert (shown[11:149, 60] == GREY).all()
    dark = round(OUT_OF_VIEW * GREY)
    assert (shown[:, :49] == dark).all()
    assert (shown[:, 191:] == dark).all()
    assert (shown[:9] == dark).all()


def test_boxes_are_drawn_around_their_pixels_in_white_on_black() -> None:
    shown = np.asarray(compose(IMAGE, None, None, [(100, 40, 200, 120)]))  # thumbnail x 50 to 100, y 20 to 60
    assert (shown[30, [50, 51, 52]] == [[0] * 3, [255] * 3, [0] * 3]).all()
    assert (shown[30, [97, 98, 99]] == [[0] * 3, [255] * 3, [0] * 3]).all()
    assert (shown[[20, 21, 58, 59], 70, 0] == [0, 255, 255, 0]).all()
    assert (shown[30, [49, 53, 96, 100]] == GREY).all()


def test_a_map_that_was_not_computed_leaves_the_image_as_it_is() -> None:
    view = ViewTransform.make("squash", 480, 320, size=224)
    assert (np.asarray(compose(IMAGE, view, np.full((224, 224), np.nan, np.float32))) == GREY).all()


def test_the_region_is_outlined_by_dashes() -> None:
    outline = np.asarray(compose(IMAGE, None, None, (), (100, 40, 200, 120)), int)
    along = outline[20, 50:99]
    assert {tuple(pixel) for pixel in along} == {(0, 0, 0), (0x55, 0xFF, 0xFF)}
    assert (outline[30, 60:90] == GREY).all()


def test_images_that_cannot_be_shown_are_counted_not_fatal(build, picture) -> None:
    gone, other, broken, fine = (picture(f"{name}.png") for name in ("gone", "other", "broken", "fine"))
    Path(broken["uri"]).write_bytes(b"not an image")
    broken["digest"] = hashlib.sha256(b"not an image").hexdigest()
    run = build(*({**sample, "outside_effect": 0.6} for sample in (gone, other, broken, fine)))
    write_hot_cell(run, 4, (1, 5))
    audit(run, AuditSettings())
    Path(gone["uri"]).unlink()
    Image.new("RGB", (10, 10)).save(other["uri"])
    contents = gather(run)
    cards = {card.sample_id: card.shown.image for card in contents.rules[0].cards}
    assert cards["gone.png"].problem == "the image is missing"
    assert cards["other.png"].problem == "the image has changed since the run"
    assert cards["broken.png"].problem == "the image is unreadable"
    assert cards["fine.png"].uri
    assert (cards["gone.png"].width, cards["gone.png"].height) == (240, 160)
    assert contents.problems.total() == 3
    assert contents.pictures == 4


def test_images_are_read_from_any_file_system(build, picture) -> None:
    sample = picture("x.png")
    fsspec.filesystem("memory").pipe_file("/bucket/x.png", Path(sample["uri"]).read_bytes())
    run = build({**sample, "uri": "memory://bucket/x.png", "outside_effect": 0.6})
    write_hot_cell(run, 1, (1, 5))
    audit(run, AuditSettings())
    assert gather(run).rules[0].cards[0].shown.image.uri.startswith("data:image/jpeg;base64,")


def test_pictures_stop_before_the_page_is_too_big(build, picture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build(*({**picture(f"{index}.png"), "outside_effect": 0.6} for index in range(6)))
    write_hot_cell(run, 6, (1, 5))
    audit(run, AuditSettings())
    shown = gather(run, per_rule=1).rules[0].cards[0].shown
    assert shown.map is not None
    monkeypatch.setattr(pictures, "MOST_BYTES", 3 * (len(shown.image.uri) + len(shown.map.uri)))
    contents = gather(run)
    assert [bool(card.shown.image.uri) for card in contents.rules[0].cards] == [True] * 3 + [False] * 3
    assert contents.problems == {"left out to keep the page small": 3}


# By hand. A close-up is 1.5 times the longer side of its region: (200, 100) to (280, 140) needs 120 px around its
# middle (240, 120). At a corner it is moved into the image; one of 400 px is as large as a side of 320 px allows.
@pytest.mark.parametrize(
    ("region", "square"),
    [
        ((200, 100, 280, 140), (180, 60, 300, 180)),
        ((0, 0, 80, 40), (0, 0, 120, 120)),
        ((400, 280, 480, 320), (360, 200, 480, 320)),
        ((0, 0, 400, 320), (40, 0, 360, 320)),
    ],
)
def test_a_close_up_is_the_square_around_what_was_hidden(
    region: tuple[float, ...], square: tuple[int, int, int, int]
) -> None:
    down, across = np.mgrid[:320, :480]
    image = Image.fromarray(np.stack([across // 2, down // 2, 0 * down], axis=2).astype(np.uint8))
    shown = np.asarray(close_up(image, region), float)
    assert shown.shape == (128, 128, 3)
    assert shown[64, [0, 127], 0] == pytest.approx([square[0] / 2, square[2] / 2], abs=3)
    assert shown[[0, 127], 64, 1] == pytest.approx([square[1] / 2, square[3] / 2], abs=3)


def test_pictures_are_told_in_words_by_where_things_are() -> None:
    box = {"x0": 0, "y0": 0, "x1": 90, "y1": 60, "label": None}
    row = {
        "sample_id": "x.png", "label": "mug", "pred_label": "cat", "target_label": "mug", "width": 300, "height": 300,
        "boxes": [box], "pointing_hit": False, "energy_in": 0.25,
    }  # fmt: skip
    told = "x.png, labelled mug, predicted cat; its box at the top left"
    assert image_in_words(row, None) == told
    assert image_in_words(row, (110, 110, 190, 190)) == f"{told}; a dashed rectangle outside in the middle"
    assert image_in_words({**row, "boxes": [box, box]}, (220, 110, 290, 190)).endswith(
        "2 boxes; a dashed rectangle outside at the right"
    )
    assert map_in_words(row) == "The map of mug on x.png, strongest outside the boxes, 25% of it in the boxes"
    assert map_in_words({**row, "pointing_hit": None, "energy_in": None}) == "The map of mug on x.png"


def test_the_outline_of_a_mask_is_white_within_black() -> None:
    mask = np.zeros((320, 480), dtype=bool)
    mask[40:120, 40:80] = True  # an L of thumbnail pixels 20 to 39 and 20 to 59, and 40 to 59 of its foot
    mask[80:120, 40:160] = True
    shown = np.asarray(compose(IMAGE, None, None, mask=mask).convert("L")).astype(int)
    inside = np.zeros((160, 240), dtype=bool)
    inside[20:60, 20:40] = True
    inside[40:60, 20:80] = True
    assert (shown[[20, 59, 20, 40, 59], [20, 20, 39, 79, 79]] == 255).all()  # the corners
    # Left 40, below 59, right 19, upon the foot 39, its inner corner 1, beside the stem 20, above 18.
    assert (shown == 255).sum() == 196
    assert (shown[19, 19:40] == 0).all()
    assert shown[30, 30] == shown[50, 60] == shown[30, 60] == GREY
