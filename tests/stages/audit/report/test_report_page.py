from __future__ import annotations

import re
from itertools import pairwise
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import binomtest

from stages.audit.audit import audit
from stages.audit.report import gather, render
from stages.audit.report.charts import effect_chart, energy_chart
from stages.audit.report.contents import Point
from stages.audit.settings import AuditSettings, CustomRule
from stages.audit.summary.terms import CLASSES, FAITHFULNESS, FINDINGS, RANKING
from storage import Run
from storage.errors import UserError
from storage.info import RunInfo
from storage.maps import checksum
from storage.sql import run_query
from storage.tables import CLASSES as CLASS_TABLE
from storage.tables import CUES, SANITY
from tests.stages.audit.conftest import fill, measured
from tests.stages.audit.report.conftest import Page, write_hot_cell
from tests.stages.audit.summary.test_audit_sanity_result import checked

NASTY = "<script>alert(\"1\")</script> & 'x' ${{ 7*7 }} $a_b$"


def page_of(run: Run, **options: int) -> Page:
    return Page(render(gather(run, **options)))


def flat(sql: str, run: Run) -> list[object]:
    return [value for record in run_query(run, sql).to_pylist() for value in record.values()]


@pytest.fixture
def various(build) -> Run:
    """24 samples of two classes; every third cat relies on something outside; the images are gone."""
    changes = []
    for index in range(24):
        cat = index % 2
        change = {
            "label": "cat" if cat else "mug",
            "class_index": cat,
            "pred_index": 2 if index % 8 == 0 else cat,
            "energy_in": 0.2 + 0.03 * index,
            "energy_lift": (0.2 + 0.03 * index) / 0.3,
            "p_full": 0.4 + 0.02 * index,
            "pointing_hit": index % 5 != 0,
        }
        if index % 6 == 1:
            change |= {"outside_effect": 0.6, "drop_outside": 0.35, "p_hide_outside": 0.07, "p_hide_context": 0.05}
        changes.append(change)
    run = build(*changes, metrics=[measured("energy_in", 0.545, low=0.5, high=0.59, n=24)])
    audit(run, AuditSettings())
    return run


def test_numbers_in_the_page_are_those_of_sql(various: Run) -> None:
    page = page_of(various)
    values = page.text("dd", class_="value")
    relying, accuracy, misses, lift = flat(
        "SELECT sum((outside_effect >= .5)::INT), avg(correct::INT), "
        "avg((NOT pointing_hit)::INT), median(energy_lift) FROM audit_targets",
        various,
    )
    assert page.text("h1") == [f"{relying} of 24 images rest on something outside their boxes"]
    assert values == [f"{100 * accuracy:.1f}%", f"{100 * misses:.1f}%", f"{lift:.2f}"]
    low, high = binomtest(4, 24).proportion_ci(method="wilson")
    lede = page.text("p", class_="lede")[0]
    assert lede.startswith(f"That is 16.7% [{100 * low:.1f}, {100 * high:.1f}] of the images that could be tested")
    cat = page.row("cat")
    low, high = binomtest(4, 12).proportion_ci(method="wilson")
    (q,) = flat("SELECT reliance_q FROM classes WHERE label = 'cat'", various)
    assert cat[:2] == ["12", "12"]
    assert cat[2] == f"33.3% [{100 * low:.1f}, {100 * high:.1f}]"
    assert cat[3] == f"{q:.3f}"
    assert page.row("energy_in")[:2] == ["24", "0.545 [0.500, 0.590]"]
    ad, ai, ag = flat("SELECT 100 * avg(ad), 100 * avg(ai), 100 * avg(ag) FROM audit_targets", various)
    assert page.row("opti_cam")[1:] == ["24", f"{ad:.2f}", f"{ai:.1f}", f"{ag:.1f}"]


def test_charts_have_the_same_numbers_as_tables(various: Run) -> None:
    page = page_of(various)
    rows = run_query(various, "SELECT energy_in, box_area_frac, outside_effect, p_full FROM audit_targets").to_pylist()
    energies = [row["energy_in"] for row in rows]
    above = sum(row["energy_in"] > row["box_area_frac"] for row in rows)
    assert page.row("20% to 40%")[:3] == ["24", f"{100 * median(energies):.1f}%", str(above)]
    (said,) = page.text("desc", id="energy-summary")
    assert said.startswith(f"{above} of 24 maps lie more in the boxes")
    assert page.text("desc", id="effect-summary") == ["4 of 24 samples are flagged."]
    assert "cat" in page.text("desc", id="classes-summary")[0]


def test_tables_explain_their_terms_where_they_stand_and_in_the_words_of_the_summary(various: Run) -> None:
    page = page_of(various)
    assert {f"{term}{meaning}" for term, meaning in (*CLASSES, *FAITHFULNESS)} <= set(page.text("div"))
    heads = page.text("th", scope="col")
    assert {term for term, _ in CLASSES} <= set(heads)
    assert {f"{term} ({'lower is better' if term == 'AD' else 'higher'})" for term, _ in FAITHFULNESS} <= set(heads)
    assert any(FINDINGS in text for text in page.text("p"))


def test_a_gallery_shows_the_most_severe_and_says_how_many_there_are(build) -> None:
    run = build(*({"outside_effect": effect} for effect in (0.5, 0.9, 0.6, 0.7)))
    audit(run, AuditSettings())
    page = page_of(run, per_rule=2)
    assert [name for name in page.text("b") if name.endswith(".jpg")][:2] == ["1.jpg", "3.jpg"]
    (told,) = [text for text in page.text("p") if text.startswith("2 of 4 shown")]
    assert "rule = 'relies_on_outside'" in told
    assert "Relies on what is outside the boxes (4) flag" in page.text("h3")


def with_cue(build, sample: dict[str, object]) -> Run:
    """A flagged sample that is the exemplar of a cue."""
    run = build({**sample, "outside_effect": 0.6})
    audit(run, AuditSettings())
    example = {"sample_id": "x.png", "target": "label", "box": {"x0": 10.0, "y0": 10.0, "x1": 60.0, "y1": 60.0}}
    cue = {"cue_id": "cue-1a2b", "method": "opti_cam", "rank": 1, "size": 7, "mean_drop": 0.5, "mean_drop_random": 0.04}
    classes = [{"label": "mug", "n": 7, "p": 0.001, "q": 0.002}]
    run.write_table("cues", fill(CUES, [{**cue, "classes": classes, "exemplars": [example], "sample_ids": ["x.png"]}]))
    return run


def test_the_summary_shows_what_each_cue_looks_like(build, picture) -> None:
    run = with_cue(build, picture("x.png", box=(200, 100, 300, 200)))
    write_hot_cell(run, 1, (3, 3))
    page = page_of(run)
    (told,) = [text for text in page.text("p") if text.startswith("cue-1a2b")]
    assert told == "cue-1a2b: 7 images, mostly mug. Hiding it takes 0.50 of the probability; a random part 0.04."
    assert "cue-1a2b: 7 images, mostly mug" in page.text("h3")
    assert "Hiding the dashed part lowers p(mug) from .90 to .88." in page.text("p")
    close_up, image, heatmap = (attributes["alt"] for attributes in page.all("img")[:3])
    assert close_up == "Close-up of what was hidden in x.png, labelled mug"
    assert image.endswith("its box in the middle; a dashed rectangle outside at the top left")
    assert heatmap == "The map of mug on x.png, strongest inside the boxes, 60% of it in the boxes"


def test_without_pictures_the_images_are_not_read_and_the_cues_are_still_told(build) -> None:
    run = with_cue(build, {"sample_id": "x.png", "uri": "unheard-of://x.png"})
    page = page_of(run, per_rule=0)
    assert page.all("img") == []
    assert "cue-1a2b: 7 images, mostly mug" in page.text("h3")
    # With pictures, an image that no installed package opens is a placeholder and a count, and ends nothing.
    assert set(gather(run).problems) == {"the image is unreadable"}


def test_a_class_that_could_not_be_tested_is_neither_charted_nor_listed(build) -> None:
    cat = {
        "label": "cat",
        "class_index": 1,
        "pred_index": 1,
        "explained": 1,
        "outside_effect": 0.1,
        "outside_room": 0.2,
    }
    run = build(*({} for _ in range(12)), *(cat for _ in range(12)))
    audit(run, AuditSettings())
    page = page_of(run)
    assert page.text("desc", id="classes-summary") == ["mug 0%. The table below has every number."]
    assert "cat" not in page.text("th", scope="row")
    assert any("1 of 2 classes has fewer than 10 measured images, or none that could be" in p for p in page.text("p"))
    # An earlier version gave such a class a q.
    rows = [row | {"reliance_q": 1.0} for row in run.table("classes").to_pylist()]
    run.write_table("classes", pa.Table.from_pylist(rows, schema=CLASS_TABLE))
    assert page_of(run).text("desc", id="classes-summary") == ["mug 0%. The table below has every number."]


def test_classes_with_too_few_images_are_neither_charted_nor_listed(build) -> None:
    run = build({"label": "cat", "class_index": 1, "outside_effect": 0.6}, *({} for _ in range(12)))
    audit(run, AuditSettings())
    page = page_of(run)
    assert page.row("mug")[:2] == ["12", "12"]
    assert page.text("desc", id="classes-summary") == ["mug 0%. The table below has every number."]
    assert "cat" not in page.text("th", scope="row")
    (told,) = [text for text in page.text("p") if "fewer than 10" in text]
    assert told == (
        "1 of 2 classes has fewer than 10 measured images, or none that could be tested, so nothing is claimed about "
        "them. With flags: cat (1)."
    )


def test_what_the_sanity_check_found_is_told(build) -> None:
    run = build({})
    audit(run, AuditSettings())
    assert "Check that the maps depend on the network" in page_of(run).text("b")
    row = {"method": "opti_cam", "target": "label", "check": "weights", "level": 1, "layer": "classifier", "n": 4}
    run.maps("label", mode="r+").write(0, np.arange(4, dtype=np.float32).reshape(1, 2, 2))
    row |= {"rows": [0], "maps_checksum": checksum(run.maps("label").read([0]))}
    spearman = {**row, "metric": "spearman", "median": 0.25, "low": 0.1, "high": 0.5}
    similar = [spearman, {**row, "metric": "ssim", "median": 0.75}]
    run.write_table("sanity", fill(SANITY, similar))
    page = page_of(run)
    (cells,) = [text for text in page.text("tr") if "random weights" in text]
    assert cells.endswith("1: random weights as far as classifier 0.25 [0.10, 0.50] 0.75")
    assert any("with all weights random" in text for text in page.text("p"))


def test_names_of_the_run_cannot_become_markup(build) -> None:
    quiet = ({"label": NASTY if index < 9 else "cat"} for index in range(20))
    run = build({"label": NASTY, "sample_id": f"{NASTY}.jpg", "outside_effect": 0.6}, *quiet)
    own = CustomRule("own", f"<i>{NASTY}", "outside_effect > .5 OR label = '</pre><b>'")
    audit(run, AuditSettings(rules=(own,)))
    run.write_info(RunInfo(config={"audit": {"rules": [vars(own)]}, "dataset": {"path": NASTY}}))
    page = page_of(run)
    assert page.all("script") == []
    assert page.all("i") == []
    assert f"{NASTY}.jpg" in page.text("b")
    assert NASTY in page.text("dd")
    assert f"<i>{NASTY} (1) description" in page.text("h3")
    assert page.row(NASTY)[0] == "10"
    chart = page.text("text")
    assert any(text.endswith("…") and NASTY.startswith(text[:-1]) for text in chart), "a long name is cut in the chart"


def test_marks_that_turn_what_stands_behind_them_are_written_out(build) -> None:
    turned = "cat\u202egod"
    quiet = ({"label": turned if index < 9 else "mug"} for index in range(20))
    run = build({"label": turned, "sample_id": f"{turned}.jpg", "outside_effect": 0.6}, *quiet)
    audit(run, AuditSettings())
    run.write_info(RunInfo(config={"dataset": {"path": turned}}))
    html = render(gather(run))
    assert "\u202e" not in html
    page = Page(html)
    assert page.row("cat\\u202egod")[0] == "10"
    assert "cat\\u202egod" in page.text("text")


def test_a_page_asks_the_network_for_nothing(build, picture) -> None:
    run = build({**picture("x.png", box=(10, 10, 100, 100)), "outside_effect": 0.6})
    write_hot_cell(run, 1, (1, 5))
    audit(run, AuditSettings())
    html = render(gather(run))
    page = Page(html)
    assert any(attributes["src"].startswith("data:image/jpeg") for attributes in page.all("img"))
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"):
                assert value.startswith(("data:image/", "#")), (tag, name, value)
            assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", html)


def test_the_page_is_sound_for_a_screen_reader(various: Run) -> None:
    page = page_of(various)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        link = attributes.get("xlink:href") or attributes.get("href", "")
        named = [*attributes.get("aria-labelledby", "").split(), *([link[1:]] if link.startswith("#") else [])]
        clipped = re.findall(r"url\(#([^)]+)\)", " ".join(attributes.values()))
        assert set(named) | set(clipped) <= set(ids)
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("role") == "img" for attributes in page.all("svg"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert [len(page.all(tag)) for tag in ("h1", "main", "header", "footer", "nav", "title")][:5] == [1] * 5
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]


def test_a_run_without_findings_boxes_or_settings_is_told_as_it_is(build) -> None:
    run = build({"evaluable": False, "scores_status": "no_box", "boxes": [], "energy_in": None, "outside_effect": None})
    audit(run, AuditSettings())
    page = page_of(run)
    said = " ".join(page.text("p"))
    assert "No rule found anything." in said
    assert page.text("h1") == ["What the model relies on could not be tested"]
    assert "nothing here says what the model needs" in said
    assert "Give the dataset boxes" in page.text("b")
    assert "No image is measured" in said
    assert "1 without a box of their label" in said
    assert "it has no run.json" in said
    assert page.text("dd", class_="value") == ["100.0%", "–", "–"]


def test_a_run_that_was_not_audited_says_so(build) -> None:
    with pytest.raises(UserError, match="no findings table yet"):
        gather(build({}))


def test_methods_stand_side_by_side_with_the_audited_one_first(build) -> None:
    x = {"sample_id": "x.jpg"}
    run = build(
        x,
        {**x, "method": "fake_cam"},
        metrics=[
            measured("energy_in", 0.25, method="fake_cam", n=3),
            measured("energy_in", 0.75, low=0.7, high=0.8, n=4),
            measured("box_acc", 0.5, n=4),
        ],
    )
    audit(run, AuditSettings())
    page = page_of(run)
    heads = page.text("th", scope="col")
    assert heads.index("opti_cam") < heads.index("fake_cam")
    assert page.row("energy_in")[:3] == ["4", "0.750 [0.700, 0.800]", "0.250"]
    assert page.row("box_acc")[:3] == ["4", "0.500", "–"]
    run.write_info(RunInfo(config={"explain": {"method": "fake_cam"}}))
    (commands,) = page_of(run).text("pre", **{"aria-label": "Commands"})
    assert commands == (
        "sightline run report.yaml --set explain.method=opti_cam "
        f"sightline run report.yaml --set explain.method=fake_cam sightline report {run.url}"
    )
    assert page.row("map in the boxes, %") == ["75.0 [70.0, 80.0]", "25.0", "higher"]
    assert page.row("box accuracy (BoxAcc), %") == ["50.0", "–", "higher"]


def test_the_planted_truth_is_told_or_why_it_is_not(build, tmp_path) -> None:
    run = build({"outside_effect": 0.6}, {}, {"outside_effect": 0.6})
    audit(run, AuditSettings())
    truth = tmp_path / "truth.parquet"
    pq.write_table(pa.table({"sample_id": ["0.jpg", "1.jpg", "2.jpg"], "positive": [True, True, False]}), truth)
    run.write_info(RunInfo(config={"dataset": {"truth": str(truth)}}))
    # One of two flags is right, one of two positives is found: .5 of 2, whose Wilson interval is [.09, .91].
    assert page_of(run).row("relies_on_outside") == ["2", "1", "0.50 [0.09, 0.91]", "0.50 [0.09, 0.91]"]
    truth.unlink()
    assert any("Not told: dataset.truth: cannot read" in text for text in page_of(run).text("p"))


def test_the_page_holds_what_reproduces_the_run(various: Run) -> None:
    config = {"run": "runs/mine", "explain": {"steps": 10, "targets": ["label"]}, "audit": {"outside_effect": 0.5}}
    versions = {"torch": "2.15.0", "sightline": "0.1.0"}
    various.write_info(
        RunInfo(
            config=config,
            versions=versions,
            weights_digest="ab" * 32,
            layer="features",
            finished="2026-01-02T03:04:05+00:00",
        )
    )
    page = page_of(various)
    (settings,) = [
        text
        for (tag, attributes), text in zip(page.elements, page.texts, strict=True)
        if tag == "pre" and attributes.get("aria-label", "").startswith("Settings")
    ]
    assert yaml.safe_load(settings) == config
    assert page.row("torch") == ["2.15.0"]
    assert {"ab" * 32, "features", "2026-01-02 03:04:05 UTC", "0.1.0"} <= set(page.text("dd"))


def test_the_same_run_gives_the_same_page(various: Run) -> None:
    assert render(gather(various)) == render(gather(various))


def test_fifty_thousand_samples_still_make_small_charts() -> None:
    points = [Point(i % 97 / 97, i % 89 / 89, i % 83 / 83, i % 79 / 79, i % 5 == 0) for i in range(50_000)]
    assert len(energy_chart(points)) + len(effect_chart(points, 0.3)) < 1_000_000


@pytest.mark.parametrize(("fault", "places"), [("the maps [survive] <random> weights", 2), (None, 1)])
def test_the_page_says_whether_the_maps_depend_on_the_network(various: Run, fault: str | None, places: int) -> None:
    assert "Not checked: sightline sanity makes some maps again" in " ".join(page_of(various).text("p"))
    checked(various, fault=fault)
    said = [text for text in page_of(various).text("p") if "opti_cam, label: " in text]
    assert len(said) == places  # a fault is told in the summary too
    assert all(text.startswith("FAULT" if fault else "passes") for text in said)
    assert all((fault or "the maps depend on the network") in text for text in said)


def test_the_page_opens_with_what_makes_the_rest_doubtful(build) -> None:
    run = build({})  # one image of one class, and maps of 2 x 2 cells
    audit(run, AuditSettings())
    page = render(gather(run))
    assert page.index("A map has 2x2 cells") < page.index('<h1 id="summary">')


def test_a_multi_label_network_has_auroc_and_average_precision_beside_accuracy(build, various: Run) -> None:
    plain = page_of(various)
    assert not any("AUROC" in said for said in (*plain.text("dt"), *plain.text("th")))
    # cat: p .9 and .4 with it, .6 and .1 without: 3 of 4 pairs, precision 1 and 2/3. dog the other way round: .5 and 1.
    p = {"a": [0.9, 0.9], "b": [0.4, 0.1], "c": [0.6, 0.8], "d": [0.1, 0.4]}
    run = build(
        *(
            {
                "sample_id": f"{name}.jpg", "uri": f"{name}.jpg", "label": ("cat", "dog")[name > "b"],
                "class_index": int(name > "b"), "pred_index": 0, "class_probabilities": both,
            }
            for name, both in p.items()
        )
    )  # fmt: skip
    audit(run, AuditSettings(min_class_size=2))
    page = page_of(run)
    assert page.text("dd", class_="value")[1] == f"{(3 / 4 + 2 / 4) / 2:.3f}"
    assert {term for term, _ in RANKING} <= set(page.text("th", scope="col"))
    assert {f"{term}{meaning}" for term, meaning in RANKING} <= set(page.text("div"))
    found = {name: page.row(name) for name in ("cat", "dog")}
    assert found["cat"][5:7] == ["0.750", f"{5 / 6:.3f}"]
    # dog: .8 and .4 with it, .9 and .1 without: 2 of 4 pairs; precision 1/2 and 2/3.
    assert found["dog"][5:7] == ["0.500", f"{(1 / 2 + 2 / 3) / 2:.3f}"]
