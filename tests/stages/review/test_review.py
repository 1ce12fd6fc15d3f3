from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from stages.review.settings import ReviewSettings, RuleText
from storage.errors import UserError
from storage.info import RunInfo
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run, object_box, write_cues

pytestmark = pytest.mark.usefixtures("mongo")

FLAGGED = Planted("b/flagged.png", rules=(("relies_on_outside", "flag", 0.5), ("misses_box", "description", 0.25)))
DESCRIBED = Planted("a.png", 300, 450, rules=(("misses_box", "description", 1.0),))
WRONG = Planted("c.png", predicted=1, predicted_cell=(6, 0))
BROKEN = Planted("d.png", status="unreadable")
FLAGGED_FLAT = replace(FLAGGED, name="flagged.png")
ALL = [DESCRIBED, FLAGGED, WRONG, BROKEN]


def load_run(run: Run, settings: ReviewSettings | None = None, rules: dict[str, RuleText] | None = None):
    from stages.review.review import load

    reports = []
    dataset = load(run, settings, rules=rules, tell=reports.append)
    return dataset, reports[0]


def make(tmp_path: Path, planted: list[Planted], geometry: str = "squash") -> Run:
    for one in planted:
        (tmp_path / "images" / one.name).parent.mkdir(parents=True, exist_ok=True)
    # Datasets are named after runs, and all tests share one database.
    return make_run(tmp_path, planted, geometry, name=tmp_path.name)


def test_the_app_shows_the_findings_of_the_method_that_was_audited(tmp_path: Path):
    make(tmp_path, [FLAGGED])
    run = make_run(tmp_path, [FLAGGED], name=tmp_path.name, method="grad_cam")  # its findings are grad_cam's
    run.write_info(RunInfo(config={"audit": {"method": "grad_cam"}}))
    assert run.methods() == ["grad_cam", "opti_cam"]
    dataset, _ = load_run(run)
    assert dataset.first().findings == ["relies_on_outside", "misses_box"]
    with_another, _ = load_run(run, ReviewSettings(method="opti_cam"))
    assert with_another.first().findings == []


def test_samples_stand_worst_flag_first_with_what_a_reviewer_needs(tmp_path: Path):
    dataset, report = load_run(make(tmp_path, ALL))
    assert dataset.persistent
    assert dataset.name == tmp_path.name
    assert (report.added, report.skipped) == (3, {"unreadable": 1})
    assert dataset.values("sample_key") == ["b/flagged.png", "a.png", "c.png"]
    assert dataset.values("numbers.priority") == [1.5, 1.0, 0.0]
    first = dataset.first()
    assert first.filepath == str(tmp_path / "images" / "b" / "flagged.png")
    assert (first.metadata.width, first.metadata.height) == (400, 300)
    assert (first.label.label, first.prediction.label, first.prediction.confidence) == ("cat", "cat", 0.75)
    assert first.numbers.correct is True
    assert first.findings == ["relies_on_outside", "misses_box"]
    assert first.record.why.splitlines()[0] == "relies_on_outside: because of relies_on_outside."
    assert first.severity.relies_on_outside == 0.5
    x0, y0, x1, y1 = object_box(FLAGGED)
    (truth,) = first.ground_truth.detections
    assert truth.label == "cat"
    assert truth.bounding_box == pytest.approx([x0 / 400, y0 / 300, (x1 - x0) / 400, (y1 - y0) / 300])
    assert Path(first.saliency.map_path).is_file()
    assert first.saliency_predicted is None


def test_a_wrong_prediction_shows_the_map_and_numbers_of_both_classes(tmp_path: Path):
    dataset, _ = load_run(make(tmp_path, [WRONG]))
    sample = dataset.first()
    assert (sample.label.label, sample.prediction.label, sample.numbers.correct) == ("cat", "dog", False)
    assert sample.saliency.map_path != sample.saliency_predicted.map_path
    assert (sample.numbers.p_full, sample.predicted.p_full) == (0.125, 0.75)


def test_the_map_of_the_outside_is_a_field_that_is_unchecked_at_first(tmp_path: Path):
    run = make(tmp_path, [replace(FLAGGED, probes={"p_hide_outside_map": 0.25}), DESCRIBED])
    attributes = replace(run.maps("label").attributes, method="opti_cam.outside")
    grids = np.full((2, 7, 7), np.nan, np.float32)  # of the second image none was made
    grids[0] = 0
    grids[0, 5, 1] = 1
    run.create_maps(attributes, rows=2, grid=(7, 7)).write(0, grids)
    dataset, _ = load_run(run)
    flagged, described = (dataset.one({"sample_key": one.name}) for one in (FLAGGED, DESCRIBED))
    shown = np.asarray(Image.open(flagged.saliency_outside.map_path))
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert (int(7 * y / shown.shape[0]), int(7 * x / shown.shape[1])) == (5, 1)
    assert described.saliency_outside is None
    assert "saliency_outside" not in dataset.app_config.active_fields.paths
    (group,) = [group for group in dataset.app_config.sidebar_groups if group.name == "on the image"]
    assert "saliency_outside" in group.paths


def test_a_map_of_the_outside_that_the_last_run_did_not_ask_for_is_no_field(tmp_path: Path):
    run = make(tmp_path, [FLAGGED])
    attributes = replace(run.maps("label").attributes, method="opti_cam.outside")
    run.create_maps(attributes, rows=1, grid=(7, 7)).write(0, np.eye(7, dtype=np.float32)[None])
    dataset, _ = load_run(run)
    assert not dataset.has_sample_field("saliency_outside")


def test_the_view_box_stands_on_a_centre_crop_and_nowhere_else(tmp_path: Path):
    odd_sizes = [Planted(f"{width}.png", width, height) for width, height in ((333, 251), (300, 450), (199, 83))]
    squashed, _ = load_run(make(tmp_path / "squashed", odd_sizes))
    assert not squashed.has_sample_field("view_box")
    cropped, _ = load_run(make(tmp_path / "cropped", [Planted("x.png", 480, 320)], "resize_crop"))
    # 480 x 320 is resized to 384 x 256 and cropped to 224: x from 80/.8 = 100 to 380, y from 16/.8 = 20 to 300.
    (view,) = cropped.first().view_box.detections
    assert view.bounding_box == pytest.approx([100 / 480, 20 / 320, 280 / 480, 280 / 320])


def test_every_number_of_the_run_can_be_filtered(tmp_path: Path):
    import fiftyone as fo

    from storage.tables import EXPLAIN, SCORES

    run = make(tmp_path, [replace(WRONG, drop_outside=0.4375), FLAGGED])
    dataset, _ = load_run(run)
    schema = dataset.get_field_schema(flat=True)
    for field in (*EXPLAIN, *SCORES):
        if pa.types.is_floating(field.type):
            assert isinstance(schema[f"numbers.{field.name}"], fo.FloatField)
            assert schema[f"numbers.{field.name}"].description
    assert dataset.match(fo.ViewField("numbers.drop_outside") >= 0.4375).values("sample_key") == ["c.png"]


@pytest.mark.parametrize("geometry", ["squash", "resize_crop"])
def test_the_sidebar_has_at_most_twelve_fields_open_and_what_people_add(tmp_path: Path, geometry: str):
    import fiftyone as fo

    run = make(tmp_path, ALL, geometry)
    dataset, _ = load_run(run)
    dataset.add_sample_field("note", fo.StringField)
    dataset, _ = load_run(run)
    groups = {group.name: group for group in dataset.app_config.sidebar_groups}
    assert [name for name, group in groups.items() if group.expanded] == ["filter", "on the image"]
    opened = [*groups["filter"].paths, *groups["on the image"].paths]
    assert len(opened) <= 12
    assert {"findings", "label", "verdicts.verdict", "ground_truth", "saliency"} <= set(opened)
    assert groups["other"].paths == ["note"]
    # What is in no group, the App would put into one by itself.
    assert set(dataset.get_field_schema()) <= {path for group in groups.values() for path in group.paths}


def test_the_classes_are_named_once_where_they_agree(tmp_path: Path):
    dataset, _ = load_run(make(tmp_path, [FLAGGED, WRONG]))
    assert dataset.values("classes") == ["cat", "cat \N{RIGHTWARDS ARROW} dog"]


def test_a_second_load_writes_nothing(tmp_path: Path):
    run = make(tmp_path, ALL)
    dataset, _ = load_run(run)
    before = dataset.values(["id", "last_modified_at", "ground_truth.detections.id"])
    again, report = load_run(run)
    assert (report.added, report.updated, report.unchanged, report.removed) == (0, 0, 3, 0)
    assert again.values(["id", "last_modified_at", "ground_truth.detections.id"]) == before


def test_a_load_after_a_changed_run_updates_numbers_and_keeps_what_people_added(tmp_path: Path):
    import fiftyone as fo

    run = make(tmp_path, [FLAGGED, DESCRIBED])
    dataset, _ = load_run(run)
    dataset.match({"sample_key": "b/flagged.png"}).tag_samples("confirmed")
    dataset.add_sample_field("note", fo.StringField)
    dataset.set_values("note", {"b/flagged.png": "a tripod"}, key_field="sample_key")
    dataset.save_view("mine", dataset.limit(1))
    run = make(
        tmp_path,
        [replace(FLAGGED, drop_outside=0.25, rules=(("relies_on_outside", "flag", 0.75),)), DESCRIBED, WRONG],
    )
    dataset, report = load_run(run)
    assert (report.added, report.updated, report.unchanged) == (1, 1, 1)
    assert len(dataset) == 3
    sample = dataset.one(fo.ViewField("sample_key") == "b/flagged.png")
    assert (sample.tags, sample.note) == (["confirmed"], "a tripod")
    assert (sample.numbers.drop_outside, sample.severity.relies_on_outside) == (0.25, 0.75)
    assert dataset.values("severity.misses_box") == [None, 1.0, None]
    assert sample.findings == ["relies_on_outside"]
    assert len(sample.ground_truth.detections) == 1
    assert dataset.has_saved_view("mine")


def test_what_a_run_no_longer_has_leaves_but_a_missing_file_does_not(tmp_path: Path):
    run = make(tmp_path, [FLAGGED, DESCRIBED, WRONG])
    load_run(run)
    run = make(tmp_path, [FLAGGED, DESCRIBED])
    (tmp_path / "images" / "a.png").unlink()
    dataset, report = load_run(run)
    assert (report.removed, report.skipped) == (1, {"missing file": 1})
    assert dataset.values("sample_key") == ["b/flagged.png", "a.png"]


def test_the_field_of_a_rule_that_finds_nothing_any_more_goes(tmp_path: Path):
    load_run(make(tmp_path, [FLAGGED]))
    dataset, _ = load_run(make(tmp_path, [replace(FLAGGED, rules=())]))
    assert not dataset.has_sample_field("severity.relies_on_outside")
    assert dataset.first().findings == []


def test_each_rule_has_one_saved_view_with_its_count_sorted_by_severity(tmp_path: Path):
    run = make(tmp_path, ALL)
    rules = {
        "relies_on_outside": RuleText("Relies on what is outside", "Hiding it costs p."),
        "no_such": RuleText("None"),
    }
    dataset, _ = load_run(run, rules=rules)
    assert dataset.list_saved_views() == [
        "Everything, worst first (3)",
        "Not reviewed yet",
        "Reviewers disagree",
        "Relies on what is outside (1)",
        "Misses box (2)",
    ]
    findings = run.table("findings")
    for view, rule in (("Relies on what is outside (1)", "relies_on_outside"), ("Misses box (2)", "misses_box")):
        found = findings.filter(pc.field("rule") == rule).sort_by([("severity", "descending")])
        assert dataset.load_saved_view(view).values("sample_key") == found["sample_id"].to_pylist()
    assert dataset.get_saved_view_info("Relies on what is outside (1)")["description"] == "Hiding it costs p."


def test_each_cue_has_one_saved_view_with_its_classes_and_count(tmp_path: Path):
    run = make(tmp_path, ALL)
    write_cues(
        run,
        [
            {
                "cue_id": "cue-1a2b",
                "mean_drop": 0.75,
                "sample_ids": ["a.png", "b/flagged.png", "d.png"],
                "classes": [{"label": "cat", "n": 2}, {"label": "owl", "n": 1}],
            },
            {"cue_id": "cue-3c4d", "sample_ids": ["c.png"]},
            {"cue_id": "cue-5e6f", "sample_ids": ["d.png"]},
            {"cue_id": "cue-7a8b", "sample_ids": ["a.png"], "method": "grad_cam"},
        ],
    )
    dataset, _ = load_run(run)
    first, second = dataset.list_saved_views()[-2:]
    # d.png cannot be read, so it is not shown, nor is the cue that it alone relies on.
    assert (first, second) == ("Cue: cat, owl, cue-1a2b (2)", "Cue: no class in particular, cue-3c4d (1)")
    assert dataset.load_saved_view(first).values("sample_key") == ["b/flagged.png", "a.png"]
    assert dataset.load_saved_view(second).values("cue") == ["cue-3c4d"]
    assert "by 0.75 on average" in dataset.get_saved_view_info(first)["description"]
    # A later audit finds other cues; one that is being made again has none to show.
    write_cues(run, [{"cue_id": "cue-1a2b", "sample_ids": ["a.png"]}])
    dataset, _ = load_run(run)
    assert [name for name in dataset.list_saved_views() if "Cue" in name] == [
        "Cue: no class in particular, cue-1a2b (1)"
    ]
    run.discard_table("findings")
    dataset, _ = load_run(run)
    assert set(dataset.values("cue")) == {None}
    assert not [name for name in dataset.list_saved_views() if "Cue" in name]


def test_what_was_hidden_stands_on_the_image(tmp_path: Path):
    hidden = {"x0": 40.0, "y0": 30.0, "x1": 120.0, "y1": 60.0}
    dataset, _ = load_run(make(tmp_path, [replace(FLAGGED, hidden_box=hidden), DESCRIBED]))
    flagged, described = dataset
    (region,) = flagged.hidden_box.detections
    assert region.bounding_box == pytest.approx([0.1, 0.1, 0.2, 0.1])  # of 400 x 300
    assert described.hidden_box is None


def test_views_of_an_earlier_count_do_not_pile_up(tmp_path: Path):
    load_run(make(tmp_path, [FLAGGED, DESCRIBED]))
    dataset, _ = load_run(make(tmp_path, [FLAGGED, DESCRIBED, replace(DESCRIBED, name="e.png")]))
    assert dataset.list_saved_views() == [
        "Everything, worst first (3)",
        "Not reviewed yet",
        "Reviewers disagree",
        "Relies on outside (1)",
        "Misses box (3)",
    ]


def test_two_runs_of_one_name_are_two_datasets(tmp_path: Path):
    first, _ = load_run(make_run(tmp_path / "a", [WRONG], name="twins"))
    second, _ = load_run(make_run(tmp_path / "b", [WRONG, replace(WRONG, name="x.png")], name="twins"))
    assert first.name == "twins"
    assert second.name.startswith("twins-")
    assert (len(first), len(second)) == (1, 2)


def test_a_name_that_is_taken_by_something_else_is_refused(tmp_path: Path):
    import fiftyone as fo

    fo.Dataset("somebody-elses")
    with pytest.raises(UserError, match="'somebody-elses' already"):
        load_run(make(tmp_path, [WRONG]), ReviewSettings(dataset="somebody-elses"))


def test_a_sample_without_a_label_of_the_model_shows_its_predicted_class(tmp_path: Path):
    run = make(tmp_path, [WRONG])
    maps = run.maps("label", mode="r+")
    maps.write(0, maps.read([0]) * float("nan"))
    dataset, report = load_run(run)
    assert report.without_heatmap == 0
    assert dataset.first().saliency is None
    assert dataset.first().saliency_predicted.map_path


def test_images_that_the_app_cannot_serve_are_refused_with_the_remedy(tmp_path: Path):
    run = make(tmp_path, [WRONG])
    samples = run.table("samples")
    index = samples.schema.get_field_index("uri")
    run.write_table("samples", samples.set_column(index, "uri", pa.array(["s3://bucket/c.png"])))
    with pytest.raises(UserError, match=r"s3://bucket/c\.png.*local folder"):
        load_run(run)


def test_a_method_that_the_run_lacks_is_refused_with_those_it_has(tmp_path: Path):
    with pytest.raises(UserError, match=r"'grad_cam'; it has opti_cam"):
        load_run(make(tmp_path, [WRONG]), ReviewSettings(method="grad_cam"))


def test_a_run_without_maps_says_what_makes_them(tmp_path: Path):
    run = Run.create(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no maps to review yet; `sightline run"):
        load_run(run)


def test_settings_and_app_import_without_fiftyone():
    code = "import sys, stages.review.app.serve, stages.review.settings; sys.exit('fiftyone' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_process_that_has_imported_dask_can_review():
    # On Python 3.11 Dask brings importlib-metadata, whose newer versions FiftyOne does not survive.
    code = "import dask, stages.review.review"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_deleting_a_runs_dataset_touches_none_of_its_files(tmp_path: Path):
    run = make(tmp_path, [FLAGGED, WRONG])
    dataset, _ = load_run(run)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.parent.name == "heatmaps" for path in before)
    dataset.delete()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    again, report = load_run(run)
    assert (report.added, len(again)) == (2, 2)


def test_a_run_that_is_loaded_again_leaves_the_dataset_of_another_run_alone(tmp_path: Path):
    first, second = (make_run(tmp_path / name, [FLAGGED_FLAT], name=f"{tmp_path.name}-{name}") for name in "ab")
    one, _ = load_run(first)
    two, _ = load_run(second)
    two.tag_samples("mine")
    before = two.values(["id", "last_modified_at", "tags"])
    make_run(tmp_path / "a", [replace(FLAGGED_FLAT, drop_outside=0.75), WRONG], name=f"{tmp_path.name}-a")
    one, report = load_run(first)
    assert (report.added, report.updated) == (1, 1)
    assert two.values(["id", "last_modified_at", "tags"]) == before
    assert (len(one), len(two)) == (2, 1)
