import uuid
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.errors import SightlineError, UserError
from storage.files import Directory
from storage.maps import CHUNK_ROWS, MapAttributes, MapStore, checksum, normalize, resize

ATTRIBUTES = MapAttributes(
    "opti_cam", "label", size=32, layer="features.18", class_names=("crane", "crane (bird)", "é")
)
VALUES = st.floats(-(2.0**40), 2.0**40, width=32)


@pytest.fixture(params=["path", "memory url", "memory url with a slash at its end"])
def directory(request, tmp_path):
    name = uuid.uuid4().hex
    urls = {
        "path": str(tmp_path),
        "memory url": f"memory://{name}/run",
        "memory url with a slash at its end": f"memory://{name}/run/",
    }
    return Directory(urls[request.param])


def create(directory, rows=70, grid=(4, 5), **attributes):
    return MapStore.create(directory, replace(ATTRIBUTES, **attributes), rows=rows, grid=grid)


def reopened(directory):
    return MapStore.open(directory, "label", "opti_cam")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_maps_and_attributes_read_back_as_written(directory):
    maps = noise(70, 4, 5)
    create(directory).write(0, maps)
    store = reopened(directory)
    assert store.shape == (70, 4, 5)
    assert store.attributes == ATTRIBUTES
    np.testing.assert_array_equal(store.read(slice(0, 70)), maps)
    np.testing.assert_array_equal(store.read([69, 3, 3, 40]), maps[[69, 3, 3, 40]])
    assert store.read(slice(0, 70)).dtype == np.float32


def test_what_was_not_written_is_nan(directory):
    store = create(directory)
    maps = noise(10, 4, 5)
    maps[3] = np.nan
    store.write(32, maps)
    read = reopened(directory).read(slice(0, 70))
    assert np.isnan(read[:32]).all()
    assert np.isnan(read[42:]).all()
    np.testing.assert_array_equal(read[32:42], maps)


def test_an_array_grows_and_keeps_what_it_holds(directory):
    maps = noise(40, 4, 5)
    create(directory, rows=40).write(0, maps)
    grown = create(directory, rows=100)
    assert grown.shape == (100, 4, 5)
    grown.write(96, maps[:4])
    read = reopened(directory).read(slice(0, 100))
    np.testing.assert_array_equal(read[:40], maps)
    assert np.isnan(read[40:96]).all()
    np.testing.assert_array_equal(read[96:], maps[:4])


def test_an_array_never_shrinks(directory):
    create(directory, rows=40).write(0, noise(40, 4, 5))
    assert create(directory, rows=10).shape == (40, 4, 5)
    np.testing.assert_array_equal(reopened(directory).read(slice(0, 40)), noise(40, 4, 5))


def test_another_grid_begins_a_new_array(directory):
    create(directory, grid=(4, 5)).write(0, noise(70, 4, 5))
    assert create(directory, grid=(7, 7)).shape == (70, 7, 7)
    assert np.isnan(reopened(directory).read(slice(0, 70))).all()


def test_methods_and_targets_have_arrays_of_their_own(directory):
    for method, target, value in [("opti_cam", "label", 1), ("opti_cam", "predicted", 2), ("grad_cam", "label", 3)]:
        store = MapStore.create(directory, replace(ATTRIBUTES, method=method, target=target), rows=3, grid=(2, 2))
        store.write(0, np.full((3, 2, 2), value, np.float32))
    read = [
        MapStore.open(directory, target, method).read([1])[0, 0, 0]
        for method, target in [("opti_cam", "label"), ("opti_cam", "predicted"), ("grad_cam", "label")]
    ]
    assert read == [1, 2, 3]


def test_a_missing_array_is_named_with_the_remedy(directory):
    with pytest.raises(UserError, match=r"no maps 'opti_cam/predicted'.*explain\.targets"):
        MapStore.open(directory, "predicted", "opti_cam")


def test_a_row_that_is_not_there_is_an_error_and_not_another_row(directory):
    store = create(directory, rows=5)
    with pytest.raises(IndexError, match=r"row 5 is outside the 5 rows"):
        store.read([0, 5])
    with pytest.raises(IndexError, match=r"row -1 is outside the 5 rows"):
        store.read([-1, 2])
    assert store.read([]).shape == (0, 4, 5)
    assert store.read([], size=(8, 8)).shape == (0, 8, 8)


@settings(max_examples=60, deadline=None)
@given(
    maps=hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), elements=VALUES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_resizing_is_torch_s_bilinear_interpolation(maps, height, width):
    wanted = F.interpolate(torch.from_numpy(maps)[:, None].double(), size=(height, width), mode="bilinear")[:, 0]
    scale = max(1.0, float(np.abs(maps).max()))
    np.testing.assert_allclose(resize(maps, (height, width)), wanted.numpy(), rtol=0, atol=2e-6 * scale)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)), elements=VALUES))
def test_a_normalised_map_reaches_zero_and_one_or_is_constant(maps):
    normal = normalize(maps)
    for before, after in zip(maps, normal, strict=True):
        if before.max() - before.min() <= 1e-30:
            assert (after == 0).all()
        else:
            assert after.min() == 0
            assert after.max() == 1
            assert (np.diff(after.flat[np.argsort(before, axis=None)]) >= 0).all()  # the order of pixels stays


def test_maps_are_upsampled_to_the_view_normalised_there_and_then_resized(directory):
    raw = noise(6, 4, 5)
    raw[2] = np.nan  # not computed
    raw[4] = 3.5  # constant
    create(directory, rows=6, size=32).write(0, raw)
    read = reopened(directory).read(slice(0, 6), size=(12, 20))

    view = F.interpolate(torch.from_numpy(raw)[:, None], size=(32, 32), mode="bilinear", align_corners=False)
    low, high = view.amin((2, 3), keepdim=True), view.amax((2, 3), keepdim=True)
    wanted = F.interpolate((view - low) / (high - low), size=(12, 20), mode="bilinear", align_corners=False)[:, 0]
    for row in (0, 1, 3, 5):
        np.testing.assert_allclose(read[row], wanted[row].numpy(), rtol=0, atol=2e-6)
    assert np.isnan(read[2]).all()
    assert (read[4] == 0).all()


def test_a_map_at_the_view_s_size_reaches_zero_and_one(directory):
    create(directory, rows=3).write(0, noise(3, 4, 5))
    maps = reopened(directory).read([0, 1, 2], size=(32, 32))
    assert (maps.min(axis=(1, 2)) == 0).all()
    assert (maps.max(axis=(1, 2)) == 1).all()


def test_an_array_that_does_not_say_its_view_is_refused_by_name(tmp_path):
    group = zarr.open_group(store=str(tmp_path / "maps.zarr"), mode="a")
    group.create_array("opti_cam/label", shape=(2, 2, 2), dtype="float32", attributes={"layer": "x"})
    store = MapStore.open(Directory(str(tmp_path)), "label", "opti_cam")
    with pytest.raises(SightlineError, match="lacks the attribute 'size'"):
        store.read([0], size=(8, 8))


def test_the_checksum_changes_with_any_value_and_with_nothing_else(directory):
    maps = noise(40, 4, 5)
    maps[7] = np.nan
    store = create(directory)
    store.write(0, maps)
    before = store.checksum(0, 40)
    assert before == reopened(directory).checksum(0, 40) == checksum(maps)

    store.write(40, noise(30, 4, 5))  # other rows
    other_nan = maps.copy()
    other_nan[7].view(np.uint32)[:] = 0x7FC0BEEF  # another bit pattern of NaN
    store.write(0, other_nan)
    assert store.checksum(0, 40) == before

    maps[39, 3, 4] = np.nextafter(maps[39, 3, 4], np.float32(9))
    store.write(0, maps)
    assert store.checksum(0, 40) != before


def test_writing_one_shard_touches_no_file_of_another(tmp_path):
    directory = Directory(str(tmp_path))
    store = create(directory, rows=2 * CHUNK_ROWS)
    store.write(0, noise(CHUNK_ROWS, 4, 5))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    store.write(CHUNK_ROWS, noise(CHUNK_ROWS, 4, 5))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_a_shard_s_maps_are_one_object(tmp_path):
    store = MapStore.create(Directory(str(tmp_path)), ATTRIBUTES, rows=150, grid=(4, 5), shard=64)
    maps = noise(150, 4, 5)
    for start in (0, 64, 128):
        store.write(start, maps[start : start + 64])
    assert (
        len([path for path in (tmp_path / "maps.zarr" / "opti_cam" / "label" / "c").rglob("*") if path.is_file()]) == 3
    )
    np.testing.assert_array_equal(reopened(Directory(str(tmp_path))).read([149, 3, 70]), maps[[149, 3, 70]])


@pytest.mark.parametrize(
    ("before", "after", "stays"), [(32, 64, True), (64, 64, True), (64, 128, True), (64, 32, False)]
)
def test_an_array_stays_if_tasks_of_the_new_size_write_whole_objects_of_it(directory, before, after, stays):
    maps = noise(128, 4, 5)
    MapStore.create(directory, ATTRIBUTES, rows=128, grid=(4, 5), shard=before).write(0, maps)
    assert MapStore.fits(directory, ATTRIBUTES, (4, 5), after) is stays
    MapStore.create(directory, ATTRIBUTES, rows=200, grid=(4, 5), shard=after)
    np.testing.assert_array_equal(
        reopened(directory).read(slice(0, 128)), maps if stays else np.full_like(maps, np.nan)
    )


def test_normalisations_by_hand():
    maps = np.array([[[-1.0, 0.0], [1.0, 3.0]]], dtype=np.float32)
    assert normalize(maps, "range").ravel().tolist() == [0.0, 0.25, 0.5, 1.0]
    assert normalize(maps, "max").ravel().tolist() == pytest.approx([0, 0, 1 / 3, 1])
    assert normalize(maps, "sigmoid").ravel().tolist() == pytest.approx([0.2689414, 0.5, 0.7310586, 0.9525741])
