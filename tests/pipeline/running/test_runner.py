"""The whole pipeline in this process, on two real Dask workers that the tests of this file share."""

import io
import re
import shutil

import numpy as np
import pytest
from distributed.nanny import WorkerProcess

from pipeline import progress, runner
from pipeline.config import load_config
from pipeline.show.console import plain_console
from pipeline.workers import shards
from pipeline.workers.cluster import connect
from stages.audit.canned import load_query
from stages.explain.explain import ShardReport, explain_shard
from stages.explain.plan import shard_samples
from stages.explain.sanity.check import SanitySettings, check_sanity
from stages.score import part as part_scores
from storage.errors import SightlineError, UserError
from storage.run import Part
from storage.sql import run_query
from tests.pipeline.datasets import contents, write_config, write_images, write_manifest
from tests.pipeline.running.runs import run, statuses

COUNT = 70

pytestmark = pytest.mark.usefixtures("shared_cluster")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_manifest(folder, write_images(folder, range(COUNT)))
    return folder


def test_a_run_makes_every_table_and_the_second_makes_nothing_new(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    done, said = run(config)
    assert "3 of 3 shards computed, 0 were done" in said
    assert done.table("samples").num_rows == COUNT
    assert statuses(done) == {"ok": 2 * COUNT}
    assert done.table("scores").num_rows == 2 * COUNT
    assert done.table("classes").num_rows == 5
    assert done.info.section("explain")["steps"] == 3
    assert done.info.explained.images == COUNT
    before = contents(tmp_path / "run")
    assert {name.split("/")[0] for name in before} == {
        "samples.parquet", "maps.zarr", "explain", "scores", "metrics.parquet", "findings.parquet",
        "classes.parquet", "cues.parquet", "donors.parquet", ".lock",
    }  # fmt: skip
    done, said = run(config)
    assert "0 of 3 shards computed, 3 were done" in said
    assert "0 shards scored, 3 were done" in said
    assert contents(tmp_path / "run") == before
    assert done.info.explained.images == COUNT  # the speed is that of the run that computed


def test_images_are_counted_batch_by_batch_as_the_workers_finish_them(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1)
    _, said = run(write_config(tmp_path, dataset / "audit.csv"))
    lines = re.findall(rf"(\d+) of {COUNT} images, \d+\.\d/s, \d+ s left", said.split("dashboard")[1])
    counted = list(map(int, lines))
    # A batch is 8 maps and a shard 32 images, so the first word comes long before a shard is done.
    assert 0 < counted[0] <= 8
    assert counted == sorted(counted)


def test_the_driver_scores_nothing_itself(dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("scored in this process")

    monkeypatch.setattr(part_scores, "measure_maps", refuse)  # the workers are other processes
    config = write_config(tmp_path, dataset / "audit.csv")
    done, said = run(config)
    assert "3 shards scored, 0 were done" in said
    before = contents(tmp_path / "run")
    done.discard_part(Part("scores", "opti_cam", 1))  # as if the run had ended between the two commits of a shard
    _, said = run(config)
    assert "0 of 3 shards computed, 3 were done" in said
    assert "1 shard scored, 2 were done" in said
    assert contents(tmp_path / "run") == before
    assert "3 shards scored, 0 were done" in run(config, "score.box_accuracy=true")[1]


def test_what_verify_finds_is_made_again_to_the_same_bytes(command, dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    before = contents(tmp_path / "run")
    assert command("verify", tmp_path / "run")[0] == 0
    maps, part = (
        tmp_path / "run/maps.zarr/opti_cam/predicted/c/2/0/0",
        tmp_path / "run/explain/opti_cam/part-00001.parquet",
    )
    damaged = bytearray(maps.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    maps.write_bytes(damaged)
    part.write_bytes(part.read_bytes()[:-9])
    status, out, err = command("verify", tmp_path / "run")
    assert status == 1
    assert "explain/opti_cam/part-00001.parquet: it cannot be read: " in out
    assert "explain/opti_cam/part-00002.parquet: its maps " in out
    assert "2 damaged files" in err
    _, said = run(config)
    assert "2 of 3 shards computed, 1 were done" in said
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("left", [0.0, 0.4, 0.99])
def test_files_that_were_cut_off_are_named_once_and_made_again_to_the_same_bytes(dataset, tmp_path, left, command):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    folder = tmp_path / "run"
    before = contents(folder)
    names = [f"{name}.parquet" for name in ("samples", "findings", "classes", "cues", "metrics", "donors")]
    names += ["explain/opti_cam/part-00001.parquet", "scores/opti_cam/part-00002.parquet", "run.json"]
    for name in names:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(left * len(content))])
    _, said = run(config)
    for name in names:
        assert said.count(f"damaged  {name}: it cannot be read: ") == 1
    assert "1 of 3 shards computed, 2 were done" in said
    assert "2 shards scored, 1 were done" in said
    assert contents(folder) == before
    assert command("verify", folder)[0] == 0
    assert "damaged" not in run(config)[1]


@pytest.mark.parametrize("left", [0.0, 0.4, 0.99])
def test_an_array_whose_description_was_cut_off_is_made_again_with_its_maps(dataset, tmp_path, left):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    before = contents(tmp_path / "run")
    described = tmp_path / "run/maps.zarr/opti_cam/label/zarr.json"
    described.write_bytes(described.read_bytes()[: int(left * described.stat().st_size)])
    _, said = run(config)
    assert said.count("damaged  maps.zarr/opti_cam/label/zarr.json: ") == 1
    assert "3 of 3 shards computed" in said
    assert contents(tmp_path / "run") == before


def test_verdicts_that_cannot_be_read_are_kept_and_the_run_goes_on(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    reviews = tmp_path / "run" / "reviews.parquet"
    reviews.write_bytes(b"PAR1 cut")
    _, said = run(config)
    assert re.search(r"damaged  reviews\.parquet: it cannot be read: .*; kept: `sightline reviews RUN` names the", said)
    assert reviews.read_bytes() == b"PAR1 cut"


def test_another_method_stands_beside_the_first_and_the_audit_stays(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    before = contents(tmp_path / "run")
    done, said = run(config, "explain.method=fake_cam")
    assert "explain  fake_cam, squash 32 px\n" in said
    assert "3 of 3 shards computed" in said
    of_all = ("maps.zarr/zarr.json", "metrics.parquet")
    assert contents(tmp_path / "run").items() >= {name: before[name] for name in before if name not in of_all}.items()
    assert set(done.table("metrics")["method"].to_pylist()) == {"opti_cam", "fake_cam"}
    assert set(done.table("findings")["method"].to_pylist()) == {"opti_cam"}
    lines = [line.split() for line in said.splitlines() if line.startswith(("opti_cam", "fake_cam"))]
    rows = [[method, target] for method in ("opti_cam", "fake_cam") for target in ("label", "predicted")]
    assert [line[:2] for line in lines] == [*rows, *rows]  # faithfulness, then localisation
    assert [line[2] for line in lines[:4]] == [str(COUNT)] * 4
    assert "Percent (opti_cam: Adam lr 0.1, 3 steps, best iterate, squash 32 px)" in said
    compared = run_query(done, load_query("method_comparison").of(done))
    assert compared["method"].to_pylist() == ["fake_cam"] * 2 + ["opti_cam"] * 2
    assert compared["rows"].to_pylist() == [COUNT] * 4


def test_a_method_of_another_network_gives_way(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config, "explain.method=center")
    done, said = run(config, "model.mean=[0.5, 0.5, 0.5]")
    assert "3 shards of center removed: the network, layer, view, images or classes changed since it was run" in said
    assert done.methods() == ["opti_cam"]
    assert set(done.table("scores")["method"].to_pylist()) == {"opti_cam"}


def test_the_folder_of_a_run_may_have_any_name(dataset, tmp_path, command):
    name = "~e [2024] a*b? it's {c} 100% #d f::g/run"
    config = write_config(tmp_path, dataset / "audit.csv", name)
    done, _ = run(config)
    assert run_query(done, "SELECT count(*) AS n FROM audit")["n"].to_pylist() == [COUNT]
    folder = tmp_path / name
    assert "every file is what was written" in command("verify", folder)[1]
    for words in (["report"], ["export", "--format", "coco"], ["compare", folder], ["reproduce"]):
        status, out, err = command(words[0], folder, *words[1:], *([tmp_path / "out"] if words[0] == "export" else []))
        assert status == 0, (words, out, err)


def test_corrected_names_of_classes_are_those_of_every_method(dataset, tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("0\n1\n2\n3\n4\n")
    images = [f"images/{seed:03}.png" for seed in range(COUNT)]
    manifest = write_manifest(tmp_path, [dataset / name for name in images], ["2", "3"] * (COUNT // 2))
    config = write_config(tmp_path, manifest)
    done, _ = run(config, "explain.method=center", f"model.classes={names}")
    index = max(done.table("explain")["pred_index"].to_pylist())
    assert index < 2, "a class that no image has"
    names.write_text("0\n1\n2\n3\n4\n".replace(str(index), "new"))
    done, _ = run(config, f"model.classes={names}")
    answered = run_query(done, f"SELECT DISTINCT method, pred_label FROM audit_targets WHERE pred_index = {index}")
    assert sorted(answered.to_pylist(), key=str) == [
        {"method": "center", "pred_label": "new"},
        {"method": "opti_cam", "pred_label": "new"},
    ]


@pytest.mark.parametrize("fewer", [["explain.targets=[predicted]"], ["explain.outside=false"]])
def test_a_run_of_fewer_targets_or_maps_is_the_same_as_one_that_never_had_them(dataset, tmp_path, fewer):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    run(config, *fewer)
    before = contents(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    done, _ = run(config, *fewer)
    assert contents(tmp_path / "run") == before
    assert run_query(done, "SELECT count(*) AS n FROM audit")["n"].to_pylist() == [COUNT]


def test_what_is_asked_for_later_is_made_on_the_same_maps_and_summed_up(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    _, said = run(config)
    for word in ("insertion", "BoxAcc"):
        assert word not in said
    maps = {name: content for name, content in contents(tmp_path / "run").items() if "/c/" in name}
    assert maps
    done, said = run(config, "explain.curves=true", "explain.scan=true", "score.box_accuracy=true")
    after = contents(tmp_path / "run")
    assert {name: after[name] for name in maps} == maps
    metrics = {(row["target"], row["metric"]): row for row in done.table("metrics").to_pylist()}
    assert metrics["label", "insertion"]["n"] == metrics["label", "max_box_acc_v2"]["n"] == COUNT
    lines = [line.split() for line in said.splitlines()]
    faithfulness, localisation = [line for line in lines if line[:2] == ["opti_cam", "label"]]
    assert [float(cell) for cell in faithfulness[-2:]] == [
        pytest.approx(100 * metrics["label", name]["value"], abs=0.051) for name in ("insertion", "deletion")
    ]
    assert float(localisation[-1]) == pytest.approx(100 * metrics["label", "max_box_acc_v2"]["value"], abs=0.051)
    # The scan may only lower p; its own column says what it found.
    rows = done.table("explain", ["p_hide_outside", "p_hide_scan"]).to_pylist()
    assert all(row["p_hide_outside"] <= row["p_hide_scan"] for row in rows if row["p_hide_scan"] is not None)


def test_no_line_is_broken_and_the_next_commands_stand_at_the_end(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    done, said = run(write_config(tmp_path, dataset / "audit.csv"))
    assert [line.split("   ")[0].strip() for line in said.splitlines()[-5:]] == [
        "make app RUN=run",
        "make report RUN=run",
        "make query RUN=run NAME=worst_classes",
        "make sanity RUN=run",
        "what each line means: docs/reading-a-run.md",
    ]
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    # Once the maps are checked, the summary says what was found and proposes it no more.
    config = load_config(write_config(tmp_path, dataset / "audit.csv"))
    checked = check_sanity(done, config.model, config.view, config.explain, SanitySettings(samples=3), device="cpu")
    _, said = run(write_config(tmp_path, dataset / "audit.csv"))
    lines = said.splitlines()
    assert any(len(line) > 80 for line in lines)
    (verdict,) = [line for line in lines if line.startswith("sanity")]
    assert verdict.split()[1] == ("FAULT" if checked.fault else "passes")
    assert "opti_cam, label: " in verdict
    assert "(3 images)" in verdict
    assert [line.split("   ")[0].strip() for line in lines[-4:]] == [
        "sightline app run",
        "sightline report run",
        "sightline query run --name worst_classes",
        "what each line means: docs/reading-a-run.md",
    ]
    order = [line.split()[0] for line in lines if line and line[0] != " "]
    assert order[:6] == ["Sightline", "dataset", "ingest", "explain", "score", "audit"]
    assert "this run    load" in said


def test_new_images_get_the_next_rows_and_old_shards_are_left_alone(tmp_path):
    names = write_images(tmp_path, range(40))
    labels = [str(place % 5) for place in range(42)]
    config = write_config(tmp_path, write_manifest(tmp_path, names, labels[:40]))
    done, _ = run(config)
    rows = dict(zip(*[done.table("samples")[name].to_pylist() for name in ("sample_id", "row")], strict=True))
    part = tmp_path / "run" / "explain" / "opti_cam" / "part-00000.parquet"
    before = part.stat().st_mtime_ns
    write_images(tmp_path, [900, 901])
    write_manifest(tmp_path, ["images/900.png", *names, "images/901.png"], ["0", *labels[:40], "1"])
    done, said = run(config)
    assert "1 of 2 shards computed, 1 were done" in said
    now = dict(zip(*[done.table("samples")[name].to_pylist() for name in ("sample_id", "row")], strict=True))
    assert {name: now[name] for name in rows} == rows
    assert sorted(now[name] for name in ("images/900.png", "images/901.png")) == [40, 41]
    assert part.stat().st_mtime_ns == before
    assert np.isfinite(done.maps("label").read(slice(0, 42))).all()


def test_a_seeded_sample_first_and_the_whole_dataset_later(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    done, said = run(config, "dataset.limit=7")
    assert "ingest   7 samples, all ok" in said
    first = done.table("samples")["sample_id"].to_pylist()
    again, _ = run(write_config(tmp_path, dataset / "audit.csv", "again"), "dataset.limit=7")
    assert again.table("samples")["sample_id"].to_pylist() == first
    done, said = run(write_config(tmp_path, dataset / "audit.csv"))
    assert done.table("samples").num_rows == COUNT
    assert done.table("samples")["sample_id"].to_pylist()[:7] == first
    assert statuses(done) == {"ok": 2 * COUNT}


def test_a_smaller_sample_later_leaves_whole_shards_without_samples(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    run(config)
    done, _ = run(config, "dataset.limit=2")
    assert len(set(done.table("scores")["row"].to_pylist())) == 2
    run(config, "dataset.limit=2")  # nothing of it stands in the way of the next run
    done, _ = run(config)
    assert statuses(done, "scores") == statuses(
        run(write_config(tmp_path, dataset / "audit.csv", "again"))[0], "scores"
    )


def test_a_missing_table_of_truth_is_told_before_any_work(dataset, tmp_path):
    config = write_config(tmp_path, dataset / "audit.csv")
    with pytest.raises(UserError, match=r"dataset\.truth: cannot read .*truth\.parquet"):
        run(config, f"dataset.truth={tmp_path / 'truth.parquet'}")
    assert not (tmp_path / "run").exists()


def fail_on_row_40(plan, index, samples, settings, topic):
    if 40 in plan.shard(index):
        raise MemoryError("the device is full")
    return ShardReport(index, len(plan.shard(index)), 0, 0.0, {})


def mistake(plan, index, samples, settings, topic):
    raise UserError("model: this worker loads other weights")


def test_a_shard_that_fails_for_good_is_named_and_the_others_are_finished(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "make_shard", fail_on_row_40)
    with pytest.raises(SightlineError, match=r"shard 1 \(rows 32 to 63\) failed: MemoryError.*; 1 of 3 shards failed"):
        run(write_config(tmp_path, dataset / "audit.csv"))


def test_ctrl_c_counts_the_shards_that_are_committed_and_not_those_that_were_reported(dataset, tmp_path, monkeypatch):
    def commit_one(client, outcomes, samples, *_, **__):
        explain_shard(outcomes.plan, 1, shard_samples(outcomes.plan, samples, 1))
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "make_shards", commit_one)
    console = plain_console(io.StringIO())
    with pytest.raises(KeyboardInterrupt):
        runner.run_pipeline(load_config(write_config(tmp_path, dataset / "audit.csv")), console)
    assert "stopped: 1 of 3 shards of this run are committed" in " ".join(console.file.getvalue().split())


def test_a_mistake_that_only_a_worker_can_see_is_still_the_user_s(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "make_shard", mistake)
    with pytest.raises(UserError, match="other weights"):
        run(write_config(tmp_path, dataset / "audit.csv"))


def fail_always(plan, index, samples, settings, topic):
    raise RuntimeError("no such operator")


def test_a_run_in_which_nothing_succeeds_gives_up_soon(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "make_shard", fail_always)
    monkeypatch.setattr(shards, "_HOPELESS", 2)
    with pytest.raises(SightlineError, match=r"no such operator; 2 of 3 shards failed, 0 are committed"):
        run(write_config(tmp_path, dataset / "audit.csv"))


def test_what_was_recognised_of_the_model_is_told_and_its_file_is_found_beside_the_config(dataset, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "from tests.stages.explain.networks import tiny\n"
        "def make():\n    return nn.Sequential(tiny(), nn.Softmax(1))\n"
    )
    config = write_config(
        tmp_path, dataset / "audit.csv", dataset={"limit": 4}, model={"source": "python:nets.py:make"}
    )
    done, printed = run(config)
    assert (
        "model    1 (Softmax) at the end is left out: the logits before it are maximised, and p is the same\n"
        in printed
    )
    assert done.info.config["model"]["source"] == f"python:{tmp_path / 'nets.py'}:make"
    plain, _ = run(config, f"run={tmp_path / 'plain'}", "model.source=python:tests.stages.explain.networks:tiny")
    columns = ["sample_id", "target", "p_full", "p_hide_context", "pred_index"]
    assert done.table("explain", columns).equals(plain.table("explain", columns))


def test_a_view_that_is_auto_is_that_of_the_weights_and_stands_in_the_run(dataset, tmp_path):
    timm = pytest.importorskip("timm", reason="needs the extra `timm`")
    network = timm.create_model("test_resnet", num_classes=5)
    timm.models.save_for_hf(network, str(tmp_path / "mine"), model_config={"label_names": list("01234")})
    config = write_config(
        tmp_path,
        dataset / "audit.csv",
        dataset={"limit": 2},
        model={"source": "timm:./mine"},
        view={"geometry": "auto", "size": 224},
    )
    done, printed = run(config)
    assert "model    the view is that of its weights: resize_crop 160 px after 168 px, bilinear\n" in printed
    view = {"geometry": "resize_crop", "size": 160, "resize": 168, "interpolation": "bilinear"}
    assert done.info.config["view"] == view
    assert done.maps("label").attributes.size == 160
    assert "0 of 1 shards computed, 1 were done" in run(config)[1]


def test_score_and_audit_follow_although_the_workers_did_not_end_in_order(dataset, tmp_path, monkeypatch):
    async def late(*_, **__):
        raise TimeoutError  # as Dask does on a busy machine

    monkeypatch.setattr(WorkerProcess, "kill", late)
    monkeypatch.setattr(runner, "connect", connect)
    done, said = run(write_config(tmp_path, dataset / "audit.csv"))
    assert said.count("the workers did not end in order (TimeoutError) and were killed") == 1
    assert "3 shards scored" in said
    assert done.has_table("findings")
