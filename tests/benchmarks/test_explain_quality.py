import numpy as np
import pytest

from benchmarks.explain_quality import measure, options_of
from benchmarks.quality_table import Measure, comparable, table
from stages.score.boxacc import THRESHOLDS
from tests.pipeline.datasets import BOX, write_config, write_images, write_manifest

NAN = np.nan


def test_a_column_is_over_the_images_that_every_method_defines():
    columns = {
        "a": np.array([1.0, NAN, 3.0, 4.0]),
        "b": np.array([1.0, 2.0, NAN, 8.0]),
        "never": np.full(4, NAN),
    }
    kept, count = comparable(columns)
    assert count == 2
    assert {method: values.tolist() for method, values in kept.items()} == {"a": [1, 4], "b": [1, 8], "never": []}


def test_a_table_by_hand():
    found = {
        "opti_cam": {"ad": np.array([0.1, 0.1, NAN]), "energy_lift": np.array([2.0, 2.0, 2.0])},
        "uniform": {"ad": np.array([0.0, 0.0, 0.0]), "energy_lift": np.full(3, NAN)},
    }
    measures = (Measure("ad", "AD, lower"), Measure("energy_lift", "lift", scale=1, median=True))
    assert table(found, measures) == (
        "| method | AD, lower | lift |\n"
        "| --- | ---: | ---: |\n"
        "| opti_cam | 10.0 [10.0, 10.0] | 2.00 [2.00, 2.00] |\n"
        "| uniform | 0.0 [0.0, 0.0] | - |\n"
        "| *images* | 2 | 3 |\n"
    )


def test_max_box_acc_is_the_best_threshold_of_each_level_averaged_over_the_levels():
    # Of two images, at IoU .3 both are found at the first threshold, at .5 one is, at .7 one at the second: 2 / 3.
    ious = np.zeros((2, len(THRESHOLDS)))
    ious[:, 0] = [0.6, 0.4]
    ious[:, 1] = [0.9, 0.0]
    assert Measure("max_box_acc_v2", "").of(ious) == pytest.approx((1 + 0.5 + 0.5) / 3)


def test_the_interval_of_a_share_is_near_the_binomial_s():
    shares = np.repeat([0.0, 1.0], [60, 40])  # standard error sqrt(.24 / 100) = .049, so .40 +- .096
    number, low, high = Measure("ai", "").cell(shares).replace("[", "").replace("]", "").replace(",", "").split()
    assert number == "40.0"
    assert float(low) == pytest.approx(30.4, abs=1.5)
    assert float(high) == pytest.approx(49.6, abs=1.5)


def test_a_dataset_is_measured_and_a_second_time_read(tmp_path):
    manifest = write_manifest(tmp_path, write_images(tmp_path, range(3)))
    config = write_config(tmp_path, manifest)
    arguments = ["--config", str(config), "--methods", "uniform", "center", "--no-curves"]
    page = measure(options_of(arguments), str(tmp_path / "run"))
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in page.splitlines() if line.startswith("| ")}
    # The box is 20 x 15 px of 40 x 30.
    assert BOX == [[5, 5, 25, 20]]
    assert "| uniform | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] |" in page
    assert rows["| uniform"][:3] == ["25.0 [25.0, 25.0]", "1.00 [1.00, 1.00]", "-"]
    # The middle of the view lies in the box, 20 / 40 and 15 / 30 from its corner at 5 / 40 and 5 / 30.
    assert rows["| center"][2] == "100.0 [100.0, 100.0]"
    assert "insertion" not in page
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "explain").rglob("*.parquet")}
    assert measure(options_of(arguments), str(tmp_path / "run")) == page
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_without_a_dataset_there_is_nothing_to_measure():
    assert options_of(["--methods", "uniform"]) is None
