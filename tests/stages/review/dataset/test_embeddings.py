"""Scatters of a run's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.decomposition import PCA

from storage.run import Part, Run
from storage.tables import EXPLAIN
from tests.stages.review.synthetic import GROUPS, Planted, add_vectors, make_run, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

PLANTED = [Planted(f"{index:02d}.png", cell=(index % 7, index // 7)) for index in range(24)]


def load_run(run: Run) -> Any:
    from stages.review.review import load

    return load(run)


def points_of(dataset: Any, brain_key: str) -> dict[str, Any]:
    results = dataset.load_brain_results(brain_key)
    keys = dict(zip(*dataset.values(["id", "sample_key"]), strict=True))
    return {keys[name]: point for name, point in zip(results.sample_ids, results.points, strict=True)}


def is_grouped(points: dict[str, Any], group: Any) -> bool:
    """Whether the nearest other point of each is of its group."""
    names = list(points)
    places = np.array([points[name] for name in names])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return all(group(names[i]) == group(names[j]) for i, j in enumerate(distances.argmin(axis=1)))


def test_alike_to_the_network_lies_together_outside_the_boxes_and_as_a_whole(tmp_path: Path):
    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run)
    dataset = load_run(run)
    assert dataset.list_brain_runs(type="visualization") == ["cue_space", "image_space"]
    cue_space, image_space = points_of(dataset, "cue_space"), points_of(dataset, "image_space")
    assert sorted(cue_space) == sorted(image_space) == [one.name for one in PLANTED]
    # The scale of a vector says nothing; its direction does.
    assert is_grouped(cue_space, lambda name: int(name[:2]) % GROUPS)
    assert is_grouped(image_space, lambda name: int(name[:2]) // 12)
    assert dataset.info["embeddings"]["cue_space"]["by"].startswith("t-SNE")


def test_a_scatter_is_made_again_only_for_other_vectors_and_goes_with_them(tmp_path: Path):
    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run)
    dataset = load_run(run)

    def made() -> dict[str, Any]:
        return {key: dataset.get_brain_info(key).timestamp for key in dataset.list_brain_runs()}

    before, points = made(), points_of(dataset, "cue_space")
    dataset = load_run(run)
    assert made() == before
    add_vectors(run, count=20, seed=1)
    dataset = load_run(run)
    assert len(points_of(dataset, "cue_space")) == 20
    assert points_of(dataset, "cue_space")["00.png"].tolist() != points["00.png"].tolist()
    make_run(tmp_path, PLANTED, name=tmp_path.name)  # a run of an earlier version has none
    dataset = load_run(run)
    assert dataset.list_brain_runs() == []
    assert dataset.info["embeddings"] == {}


def test_the_cue_space_is_that_of_the_target_whose_hiding_costs_most(tmp_path: Path):
    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run)
    scores = run.read_part(Part("scores", "opti_cam", 0))
    drops = [
        0.9 if target == "predicted" and row < 12 else 0.1
        for row, target in zip(scores["row"].to_pylist(), scores["target"].to_pylist(), strict=True)
    ]
    index = scores.schema.get_field_index("drop_outside")
    run.write_part(
        Part("scores", "opti_cam", 0), scores.set_column(index, "drop_outside", pa.array(drops, pa.float32())), {}
    )
    points = points_of(load_run(run), "cue_space")
    assert is_grouped(points, lambda name: "none" if int(name[:2]) < 12 else str(int(name[:2]) % GROUPS))


def test_many_vectors_are_laid_out_by_their_first_two_components_as_scikit_learn_finds_them(
    monkeypatch: pytest.MonkeyPatch,
):
    from stages.review.dataset import embeddings

    vectors = np.random.default_rng(0).normal(1, [3, 2, 1, 0.5, 0.2], (300, 5)).astype(np.float16)
    monkeypatch.setattr(embeddings, "TSNE_MOST", 100)
    monkeypatch.setattr(embeddings, "BLOCK", 128)
    scatter = embeddings.lay_out_vectors(vectors)
    assert scatter.method == "the first two principal components"
    directions = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    expected = PCA(2).fit_transform(directions)
    expected *= np.sign((expected * scatter.points).sum(axis=0))
    np.testing.assert_allclose(scatter.points, expected, atol=1e-4)


def test_the_largest_entry_of_each_axis_is_positive_so_that_a_picture_is_not_mirrored() -> None:
    from stages.review.dataset.embeddings import principal_components

    # Directions spread along the first channel around a common second one.
    spread = np.array([[x, 1.0] for x in (-0.3, -0.1, 0.1, 0.3)], np.float16)
    scores = principal_components(spread, 2)
    assert (np.diff(scores[:, 0]) > 0).all()


def test_vectors_of_another_layer_are_left_out(tmp_path: Path) -> None:
    from stages.review.dataset.embeddings import read_vectors

    run = make_run(tmp_path, PLANTED, name=tmp_path.name)
    add_vectors(run)
    before, _ = read_vectors(run, "opti_cam", "image_features")
    part = Part("explain", "opti_cam", 0)
    rows = run.read_part(part).to_pylist()
    for row in rows:
        if row["sample_id"] == before[2] and row["image_features"]:
            row["image_features"] = row["image_features"][:2]
    run.write_part(part, pa.Table.from_pylist(rows, schema=EXPLAIN), {})
    keys, vectors = read_vectors(run, "opti_cam", "image_features")
    assert keys == [*before[:2], *before[3:]]
    assert len(vectors) == len(keys)


def test_the_same_vectors_give_the_same_picture():
    from stages.review.dataset.embeddings import lay_out_vectors

    vectors = np.random.default_rng(0).random((60, 8)).astype(np.float16)
    assert np.array_equal(lay_out_vectors(vectors).points, lay_out_vectors(vectors).points)


@pytest.mark.parametrize("count", [2, 3, 9, 10])
def test_few_vectors_have_a_place_too(count: int):
    from stages.review.dataset.embeddings import lay_out_vectors

    points = lay_out_vectors(np.eye(count, 4, dtype=np.float16)).points
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_the_samples_of_a_cue_are_a_cloud_and_those_of_none_the_last(tmp_path: Path):
    from stages.review.dataset.embeddings import clouds_of

    run = make_run(tmp_path, [Planted(f"{row:02d}.png") for row in range(6)], name=tmp_path.name)
    add_vectors(run, count=6)
    cues = {"cue-1": ["01.png"], "cue-2": ["02.png", "04.png", "05.png"]}
    write_cues(run, [{"cue_id": cue, "sample_ids": keys, "classes": []} for cue, keys in cues.items()])
    dataset = load_run(run)
    clouds = clouds_of(dataset, "cue_space", 100)
    assert [(cloud.cue, sorted(cloud.keys)) for cloud in clouds] == [
        ("cue-2", ["02.png", "04.png", "05.png"]),
        ("cue-1", ["01.png"]),
        ("", ["00.png", "03.png"]),
    ]
    results = dataset.load_brain_results("cue_space")
    place = dict(zip(results.sample_ids, results.points.tolist(), strict=True))
    for cloud in clouds:
        assert cloud.points.tolist() == [place[key] for key in cloud.ids]
    assert [cloud.cue for cloud in clouds_of(dataset, "cue_space", 4)] == ["cue-2", "cue-1"], "cues are drawn first"
