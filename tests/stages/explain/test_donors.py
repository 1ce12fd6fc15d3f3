"""Which samples give their objects away, and that they stay the same."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from stages.explain.donors import A_CLASS, Donor, _picture, classes_without_donor, find_donors, settle_donors
from stages.explain.explain import ShardReport, explain_shard
from stages.explain.network.view import ViewSettings
from stages.explain.plan import pending_shards, shard_samples
from storage import Run
from storage.tables import SAMPLES
from tests.stages.explain.shards import edited, planned, rows_by_key, samples_of


def sample(row: int, label: int, digest: str, **changes: object) -> dict[str, object]:
    box = {"x0": 1.0, "y0": 2.0, "x1": 5.0, "y1": 6.0, "label": None}
    own = {"sample_id": f"{row}.png", "row": row, "digest": digest, "label": str(label), "class_index": label}
    return dict.fromkeys(SAMPLES.names) | own | {"uri": f"{row}.png", "status": "ok", "boxes": [box]} | changes


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SAMPLES)


def digests(run: Run, samples: pa.Table) -> list[str]:
    return [donor.digest for donor in settle_donors(run, samples)]


def explain(url: str, samples: pa.Table) -> tuple[Run, list[ShardReport]]:
    """Explain what is pending, with the run's donors, as the driver does it."""
    run, plan = planned(url, samples, donors=settle_donors(Run.create(url), samples))
    pending = pending_shards(run, plan, samples)
    return run, [explain_shard(plan, index, shard_samples(plan, samples, index)) for index in pending]


def test_each_class_gives_its_lowest_digests_in_turn(tmp_path: Path) -> None:
    rows = [sample(row, label, digest) for row, (label, digest) in enumerate(((0, "d"), (0, "a"), (1, "c"), (1, "b")))]
    assert digests(Run.create(str(tmp_path)), table(*rows)) == ["a", "b", "c", "d"]
    many = [sample(row, 0, f"{row:02}") for row in range(A_CLASS + 2)]
    assert digests(Run.create(str(tmp_path / "many")), table(*many)) == ["00", "01", "02", "03"]


def test_samples_without_a_box_or_a_class_give_nothing(tmp_path: Path) -> None:
    other = {"x0": 1.0, "y0": 2.0, "x1": 5.0, "y1": 6.0, "label": "another"}
    rows = [sample(0, 0, "a", boxes=[]), sample(1, 0, "b", status="no_class"), sample(2, 0, "c", boxes=[other])]
    assert digests(Run.create(str(tmp_path)), table(*rows)) == []


def test_new_samples_and_corrected_boxes_leave_the_donors_as_they_are(tmp_path: Path) -> None:
    run, first = Run.create(str(tmp_path)), [sample(0, 0, "m"), sample(1, 1, "n")]
    before = settle_donors(run, table(*first))
    moved = {"x0": 0.0, "y0": 0.0, "x1": 9.0, "y1": 9.0, "label": None}
    after = settle_donors(run, table({**first[0], "boxes": [moved]}, first[1], sample(2, 0, "a")))
    assert before == after
    assert before[0].boxes == ((1.0, 2.0, 5.0, 6.0),)


def test_a_donor_that_is_too_thin_for_the_view_is_left_out(tmp_path: Path) -> None:
    content = tmp_path / "thin.png"
    Image.new("RGB", (1300, 2), "red").save(content)
    digest = hashlib.sha256(content.read_bytes()).hexdigest()
    donor = Donor(0, str(content), digest, 0, ((0.0, 0.0, 1300.0, 2.0),))
    assert _picture(donor, ViewSettings("resize_crop", 224, 256)) is None  # 166400 x 256 px before the crop
    assert _picture(donor, ViewSettings("squash", 224)) is not None


def test_a_run_of_one_class_has_donors_for_it_once_it_gets_another_class(tmp_path: Path) -> None:
    run, first = Run.create(str(tmp_path)), [sample(0, 0, "m")]
    assert digests(run, table(*first)) == ["m"]
    assert digests(run, table(*first, sample(1, 0, "a"))) == ["m"]
    assert digests(run, table(*first, sample(1, 0, "a"), sample(2, 1, "n"))) == ["a", "n", "m"]


def test_classes_that_came_after_the_choice_are_counted(tmp_path: Path) -> None:
    run, first = Run.create(str(tmp_path)), [sample(0, 0, "m"), sample(1, 1, "n")]
    settle_donors(run, table(*first))
    later = table(*first, sample(2, 2, "o"), sample(3, 3, "p"), {**sample(4, 4, "q"), "status": "no_box", "boxes": []})
    assert classes_without_donor(run.table("donors"), table(*first)) == 0
    assert classes_without_donor(find_donors(run, later), later) == 2


@pytest.mark.parametrize("change", [{"status": "removed"}, {"digest": "z"}, {"class_index": 1}])
def test_they_are_chosen_anew_once_one_is_gone_or_another_file_or_class(tmp_path: Path, change: dict) -> None:
    run, rows = Run.create(str(tmp_path)), [sample(0, 0, "m"), sample(1, 1, "n")]
    settle_donors(run, table(*rows))
    assert "o" in digests(run, table({**rows[0], **change}, rows[1], sample(2, 0, "o")))


def test_added_images_change_no_row_that_was_there(tmp_path: Path) -> None:
    run, _ = explain(str(tmp_path / "run"), samples_of(tmp_path / "images", range(32)))
    before = rows_by_key(run)
    assert any(row["p_transplant"] is not None for row in before.values())
    run, reports = explain(str(tmp_path / "run"), samples_of(tmp_path / "images", range(36)))
    assert [report.index for report in reports] == [1]
    assert {key: row for key, row in rows_by_key(run).items() if key in before} == before


def test_a_donor_whose_file_was_replaced_gives_nothing_and_fails_nobody(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "images", range(2))
    (tmp_path / "images" / "1.png").write_bytes(b"another file")
    run, (report,) = explain(str(tmp_path / "run"), samples)
    rows = rows_by_key(run)
    assert rows["1.png", "label"]["status"] == "unreadable"
    assert rows["0.png", "label"]["p_transplant"] is None  # the other one was its only donor
    assert rows["0.png", "label"]["p_hide_far"] is not None
    assert report.donors_lacking == 1


def test_a_part_says_that_donors_could_not_be_read_and_the_next_shard_has_them_again(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "images", range(70))
    whole, _ = explain(str(tmp_path / "whole"), samples)
    run, plan = planned(
        str(tmp_path / "run"), samples, donors=settle_donors(Run.create(str(tmp_path / "run")), samples)
    )
    away = [Path(donor.uri) for donor in plan.donors[:2]]
    for path in away:
        path.rename(path.with_suffix(".away"))
    first = explain_shard(plan, 0, shard_samples(plan, samples, 0))
    for path in away:
        path.with_suffix(".away").rename(path)
    later = [explain_shard(plan, index, shard_samples(plan, samples, index)) for index in (1, 2)]
    assert [report.donors_lacking for report in (first, *later)] == [2, 0, 0]
    footers = {part.index: vouched.get("donors_lacking") for part, vouched in run.footers("explain").items()}
    assert footers == {0: "2", 1: None, 2: None}
    undisturbed, rows = rows_by_key(whole), rows_by_key(run)
    differing = {key for key, row in rows.items() if row != undisturbed[key]}
    assert differing
    assert {int(name.removesuffix(".png")) for name, _ in differing} <= set(range(32))


def test_a_donor_without_a_box_in_view_is_not_lacking(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "images", range(2), boxes=(100, 100, 120, 120))
    run, (report,) = explain(str(tmp_path / "run"), samples)
    assert run.table("donors").num_rows == 2
    assert report.donors_lacking == 0


def test_another_set_of_donors_makes_the_probes_again_and_keeps_the_maps(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "images", range(6))
    run, _ = explain(str(tmp_path / "run"), samples)
    maps = run.maps("label").read(slice(0, 6)).tobytes()
    donor = run.table("donors").to_pylist()[0]
    _, reports = explain(str(tmp_path / "run"), edited(samples, donor["row"], boxes=[], status="no_box"))
    assert len(reports) == 1
    assert run.maps("label").read(slice(0, 6)).tobytes() == maps
