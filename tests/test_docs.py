from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What is made, installed or downloaded here holds pages that are not ours.
FOREIGN = {".venv", ".git", "demo", "runs", "build", "artefacts", "node_modules"}


def pages() -> list[Path]:
    """Every page of the project, those that are not committed yet included."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(part in FOREIGN or part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
    )


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[str]:
    """Relative links of a page, images included."""
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", text):
        link = next(filter(None, target))
        if not re.match(r"[a-z][a-z0-9+.-]*:", link):
            yield link


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+\s+(.+?)\s*$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_reference_says_what_the_code_says(make_reference: ModuleType) -> None:
    assert make_reference.main(["--check"]) == 0, "run: python docs/make_reference.py"


def test_reference_has_every_section_of_the_config(make_reference: ModuleType) -> None:
    sections = [key for key, *_ in make_reference.config_sections()]
    assert sections == ["dataset", "model", "view", "explain", "score", "audit", "review", "cluster"]


def test_check_finds_a_stale_reference(
    make_reference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "reference.md"
    stale.write_text("# Reference\n")
    monkeypatch.setattr(make_reference, "REFERENCE", stale)
    assert make_reference.main(["--check"]) == 1
    assert "python docs/make_reference.py" in capsys.readouterr().out
    assert make_reference.main([]) == 0
    assert make_reference.main(["--check"]) == 0


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_files_that_the_config_names_exist() -> None:
    comments = re.findall(r"docs/[\w/]+\.md", (ROOT / "pipeline.yaml").read_text(encoding="utf-8"))
    assert comments
    assert [name for name in comments if not (ROOT / name).is_file()] == []


def test_make_targets_of_the_readme_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / "README.md").read_text(encoding="utf-8")))
    database = subprocess.run(["make", "-qp"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    known = set(re.findall(r"^([a-z][a-z-]*):", database, re.MULTILINE))
    assert named <= known
