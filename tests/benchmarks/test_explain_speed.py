import pytest
import torch
from torch import nn

from benchmarks import explain_speed, gpu
from benchmarks.speed import methods
from benchmarks.speed.clock import peak_memory
from benchmarks.speed.ladder import LADDER, Iteration
from benchmarks.speed.methods import MISSING, Task, variants
from stages.explain.opticam.layer import find_target_layer
from tests.stages.explain.networks import TinyNet, tiny

STEPS, CHANNELS, SIDE = 3, 8, 64
PASSES = {  # forward and backward an image, by hand
    "authors' loop, 100 iterations": (100, 200),  # back through f(masked x) and the kept f(x)
    "paper": (1 + STEPS + 1, STEPS),  # features and the last iterate
    "paper, bf16": (1 + STEPS + 1, STEPS),
    "fast": (1 + STEPS + 1, STEPS),
    "fast, bf16": (1 + STEPS + 1, STEPS),
    "Grad-CAM": (1, 1),
    "Grad-CAM of grad-cam": (1, 1),
    "Occlusion of captum": (1 + 3 * 3, 0),  # windows of 32 px at a stride of 16 in 64 px
    "Score-CAM of grad-cam": (1 + CHANNELS, 0),
    "Ablation-CAM of grad-cam": (1 + 1 + CHANNELS, 0),
}


class CountedLogits(torch.autograd.Function):
    """The identity, which counts rows on their way back."""

    @staticmethod
    def forward(ctx, logits, counts):
        ctx.counts = counts
        counts["forward"] += len(logits)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx, slope):
        ctx.counts["backward"] += len(slope)
        return slope, None


class CountingNet(TinyNet):
    """Counts its passes itself, and those of its copies."""

    counts = {"forward": 0, "backward": 0}  # noqa: RUF012

    def forward(self, x):
        return CountedLogits.apply(super().forward(x), CountingNet.counts)


def counting_net():
    torch.manual_seed(0)
    return CountingNet(channels=CHANNELS).eval()


def task_of(network, batch=2):
    torch.manual_seed(1)
    images = torch.rand(batch, 3, SIDE, SIDE, dtype=next(network.parameters()).dtype)
    return Task(network, find_target_layer(network, images[:1]), images, torch.arange(batch))


def test_passes_are_those_that_the_network_counts_itself_and_those_expected_by_hand():
    found, missing = variants(task_of(counting_net()), STEPS, compiled=False, skip_slow=False)
    assert {variant.name for variant in found} | set(missing) == set(PASSES)
    for variant in found:
        variant.begin()
        CountingNet.counts.update(forward=0, backward=0)
        variant.work()
        own = {way: variant.per_image(rows) for way, rows in CountingNet.counts.items()}
        variant.run(torch.device("cpu"))
        assert (own["forward"], own["backward"]) == PASSES[variant.name], variant.name
        assert {way: variant.per_image(rows) for way, rows in vars(variant.passes).items()} == own, variant.name


def test_every_rung_of_the_ladder_takes_the_same_steps():
    task = task_of(tiny().double())
    weights = {}
    for name, loop in LADDER.items():
        if not (loop.bf16 or loop.compiled):
            iteration = Iteration(loop, task.network, task.layer, task.images, task.targets)
            iteration.begin()
            for _ in range(5):
                iteration.step()
            weights[name] = iteration.weights
    first = weights.pop("authors' loop")
    assert float(first.max() - first.min()) > 0.01
    assert len(weights) == 5
    for name, other in weights.items():
        torch.testing.assert_close(other, first, rtol=0, atol=1e-10, msg=name)


def rows_of(page, title):
    part = page.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    header, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows if not row[0].startswith("---")}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: counting_net())
    monkeypatch.setattr(explain_speed, "peak_flops", lambda device, dtype: 1e9)
    return ["--side", str(SIDE), "--repeats", "2", "--steps", str(STEPS)]


def test_the_tables_are_written_and_agree_with_themselves(tmp_path, quick, capsys):
    out = tmp_path / "made" / "speed.md"
    explain_speed.main([*quick, "--batch", "2", "3", "--out", str(out)])
    page = out.read_text()
    assert capsys.readouterr().out.strip() == page.strip()
    assert f"--steps 3 --batch 2 3 --out {out}" in page
    assert f"torch {torch.__version__}" in page

    iterations = rows_of(page, "One iteration")
    assert list(iterations) == [name for name in LADDER if "compiled" not in name]
    assert iterations["authors' loop"]["times faster"] == "1.00"

    methods = rows_of(page, "One image")
    first = methods.pop("authors' loop, 100 iterations (5 measured, times 20)")
    half = methods.pop("authors' loop, 50 iterations (5 measured, times 10)")
    assert float(half["ms/image"]) == pytest.approx(float(first["ms/image"]) / 2, abs=0.1)
    assert (half["forward"], half["backward"]) == ("50", "100")
    cheapest = float(methods["Grad-CAM"]["ms/image"])
    for name in ("paper", "fast, bf16"):
        row = methods[name]
        each = float(row["ms/image"])
        assert float(row["times faster"]) == pytest.approx(float(first["ms/image"]) / each, rel=0.1), name
        assert float(row["in Grad-CAMs"]) == pytest.approx(each / cheapest, rel=0.3), name
        assert float(row["images/s"]) == pytest.approx(1000 / each, rel=0.1), name
        assert row["images x runs"] == "2 x 2", name
    assert list(rows_of(page, "Images/s by batch")) == ["2", "3"]


def test_the_tables_of_a_gpu_are_made_on_a_cpu_too_and_a_whole_image_is_its_map_and_what_stands_beside_it(
    tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    gpu.main(["--quick", "--device", "cpu", "--out", str(tmp_path / "gpu.md")])
    page = (tmp_path / "gpu.md").read_text()
    assert "python -m benchmarks.gpu --quick --device cpu" in page
    column, share = "ms/image", "beside the map"
    rows = rows_of(page, "One audited image")
    parts = [name for name in rows if not name.startswith(("whole", "instead"))]
    beside = sum(float(rows[name][column]) for name in parts)
    for name in ("paper", "paper, bf16", "fast", "fast, bf16"):
        whole = rows[f"whole image, {name}"]
        assert float(whole[column]) * float(whole[share].rstrip("%")) / 100 == pytest.approx(beside, rel=0.1)
    passes = {name: (int(row["forward"]), int(row["backward"])) for name, row in rows.items()}
    assert passes["Opti-CAM of the outside, the third locator"] == (6 + 1, 6)
    # The map's part of the image, boxes and context with and without the map, five proposals hidden, three times all of
    # the surroundings, four transplants, two crops. Of the scan's 25 windows the box holds one.
    assert passes["probes"] == (1 + 4 + 5 + 3 + 4 + 2, 0)
    assert passes["instead: probes with explain.scan"] == (passes["probes"][0] + 24, 0)
    # Two steps of --quick, the features and the last iterate; and all that stands beside the map.
    assert passes["whole image, fast"] == (2 + 2 + 1 + 1 + 7 + passes["probes"][0], 2 + 1 + 6)
    assert len(rows_of(page, "Feeding the device")) == 3


def test_what_is_not_installed_is_said_to_be_skipped(monkeypatch, quick, capsys):
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    explain_speed.main([*quick, "--batch", "2", "--skip-slow"])
    rows = rows_of(capsys.readouterr().out, "One image")
    assert [name for name, row in rows.items() if MISSING in row.values()] == [
        "Grad-CAM of grad-cam",
        "Occlusion of captum",
    ]


def test_the_share_of_the_peak_by_hand():
    variant = methods.Variant("", lambda: None, images=2, networks=(), backward_cost=2.0, bf16=True)
    variant.seconds = [4.0, 1.0, 2.0]
    variant.passes.forward, variant.passes.backward = 6, 4
    # (3 + 2 * 2) passes of 5 FLOP an image in 1 s, of 100 FLOP/s.
    assert explain_speed.share_of_peak(variant, 5.0, {True: 100.0, False: 1.0}) == "35%"


def test_what_takes_long_runs_once():
    def slow_then(seconds):
        variant = methods.Variant("", lambda: None, images=1, networks=(nn.Identity(),))
        variant.seconds = [seconds]
        return variant

    long, short = slow_then(21.0), slow_then(19.0)
    explain_speed.measure([long, short], 3, torch.device("cpu"), once=20.0)
    assert [len(long.seconds), len(short.seconds)] == [1, 4]


def test_peak_memory_is_that_of_the_block_alone():
    torch.ones(64, 2**20)  # 256 MiB, and freed
    with peak_memory(torch.device("cpu")) as memory:
        torch.ones(16, 2**20)
    if memory.mebibytes is None:
        pytest.skip("needs Linux")
    assert 60 < memory.mebibytes < 100
