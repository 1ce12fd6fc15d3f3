"""The commands about verdicts, as a user types them; the database is one that does not exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.selection import select_samples
from stages.review.settings import Selection
from storage.errors import UserError
from storage.info import RunInfo
from storage.run import Run
from tests.stages.review.synthetic import Planted, make_run

ONE = Planted("one.png", rules=(("misses_box", "description", 0.5), ("border_energy", "description", 0.5)))
TWO = Planted("two.png", drop_outside=0.4, rules=(("misses_box", "description", 0.25),))

VERDICTS = """sample_id,rule,verdict,reviewer
one.png,misses_box,confirmed,ann
one.png,misses_box,false_alarm,bob
two.png,misses_box,fix_box,ann
two.png,misses_box,fix_box,bob
one.png,missing_box,confirmed,ann
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    run = make_run(tmp_path, [ONE, TWO])
    run.write_info(RunInfo(config={"review": {"database": str(tmp_path / "mongo")}}))
    return run


def test_reviews_imports_and_prints_precision_and_agreement(command, run, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(VERDICTS)
    status, out, err = command("reviews", run.url, "--import", path)
    assert status == 0
    assert err.splitlines() == [
        f"5 new from {path}, 0 known already",
        f"FiftyOne was not asked: there is no database in {tmp_path / 'mongo'} yet",
    ]
    lines = out.splitlines()
    assert lines[0] == "verdicts    5; 1 of them on findings that the run does not have"
    assert lines[1].strip() == "2 confirmed, 1 false_alarm, 2 fix_box"
    # Two findings of two are judged: one right by both reviewers, the other a tie. Wilson for 1 of 1: [.21, 1].
    (rule,) = (line.split() for line in lines if line.startswith("misses_box"))
    assert rule == ["misses_box", "2/2", "1", "1", "2", "0", "0", "1.00", "[0.21,", "1.00]"]
    (pair,) = (line.split() for line in lines if line.startswith("ann and bob"))
    # Observed 1/2. By chance: fix_box .5 * .5, the others never agree: .25. Kappa (.5 - .25) / .75 = 1/3.
    assert pair == ["ann", "and", "bob", "2", "50%", "0.33"]

    status, out, err = command("reviews", run.url, "--import", path, "--format", "json")
    assert status == 0
    assert f"0 new from {path}, 5 known already" in err
    content = json.loads(out)
    assert (content["standing"], content["gone"], content["rules"][0]["precision"]) == (5, 1, 1.0)


def test_reviews_of_a_run_without_any_says_what_gives_them(command, run, tmp_path):
    status, _, err = command("reviews", run.url)
    assert status == 2
    assert err.startswith("error: ")
    assert f"has no verdicts, and FiftyOne could not be asked for any: there is no database in {tmp_path}" in err
    assert err.count("\n") == 1


def test_export_prints_what_it_wrote(command, run, tmp_path):
    (tmp_path / "mine.csv").write_text(VERDICTS)
    command("reviews", run.url, "--import", tmp_path / "mine.csv")
    status, out, err = command("export", run.url, tmp_path / "out", "--format", "coco")
    assert (status, err.startswith("FiftyOne was not asked")) == (0, True)
    assert out.splitlines()[:2] == [
        f"2 images and 3 boxes in {tmp_path / 'out'} (coco)",
        "2 original, 0 reviewed, 1 suggested; 0 labels corrected",
    ]
    status, out, _ = command("export", run.url, tmp_path / "out", "--format", "voc", "--no-suggestions")
    assert "2 original, 0 reviewed, 0 suggested; 0 labels corrected" in out
    assert "1 sample with a fix_box but nothing drawn or suggested; exported unchanged" in out
    status, _, err = command("export", run.url, tmp_path / "out", "--format", "cocoo")
    assert (status, err) == (
        2,
        "error: no format 'cocoo'; did you mean coco? Formats are coco, voc, yolo, fiftyone\n",
    )


def test_annotate_says_where_the_script_lies(command, run):
    status, out, _ = command("annotate", run.url, "--backend", "cvat", "--rule", "misses_box")
    assert status == 0
    assert out.startswith("2 samples, worst first, of 2 findings of misses_box\n")
    assert "misses_box_cvat.py upload; nothing was sent yet" in out
    assert command("annotate", run.url, "--backend", "cvat", "--rule", "x")[0] == 2


RULES = ("misses_box", "border_energy", "label_suspect")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("border_energy", {"one.png"}),
        ("SELECT sample_id FROM scores WHERE drop_outside > .3", {"two.png"}),
        ("with x as (select sample_id from samples) from x", {"one.png", "two.png"}),
    ],
)
def test_a_rule_or_sql_selects_samples(run, text, keys):
    assert select_samples(run, text, RULES) == Selection(text, frozenset(keys))


def test_nothing_selects_all_and_anything_else_is_a_saved_view(run):
    assert select_samples(run, " ", RULES) is None
    assert select_samples(run, "my favourites", RULES) == Selection("my favourites", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT row FROM samples", "the SQL returns row and no sample_id"),
        ("SELECT sample_id FROM sample", "Table with name sample does not exist"),
        ("SELECT sample_id FROM samples WHERE row > 9", "selects no sample of"),
        ("label_suspect", "'label_suspect' selects no sample of"),
    ],
)
def test_mistakes_of_a_selection_are_told(run, text, message):
    with pytest.raises(UserError, match=message):
        select_samples(run, text, RULES)
