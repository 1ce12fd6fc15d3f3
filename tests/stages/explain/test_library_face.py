import re
from dataclasses import replace
from pathlib import Path

import torch

from stages.explain import settings
from tests.stages.explain.networks import mobilenet

GUIDE = Path(__file__).parents[3] / "docs" / "guide.md"


def test_the_lines_of_the_guide_do_what_their_comments_say(monkeypatch):
    section = GUIDE.read_text(encoding="utf-8").partition("## In a notebook")[2]
    snippet = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    monkeypatch.setitem(settings.PROFILES, "fast", replace(settings.PROFILES["fast"], steps=3))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    names = {"model": mobilenet(), "images": images, "targets": torch.tensor([3, 1])}
    exec(snippet, names)
    result, maps = names["result"], names["maps"]
    assert result.status == ("ok", "ok")
    assert result.grid.shape == (2, 7, 7)
    assert maps.shape == (2, 224, 224)
    assert maps.amin((1, 2)).tolist() == [0, 0]
    assert maps.amax((1, 2)).tolist() == [1, 1]
    assert result.trace.shape == (4, 2)
    assert result.iterations.tolist() == [3, 3]
    assert torch.equal(result.trace.amax(0), result.objective_best)
