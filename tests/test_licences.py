"""docs/licences.md and what makes it."""

from __future__ import annotations

import importlib.util
import sys
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def make_licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_licences", ROOT / "docs" / "make_licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by its name
    spec.loader.exec_module(module)
    return module


def fields(**given: str | list[str]) -> Message:
    message = Message()
    for name, values in given.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


def test_every_direct_dependency_has_its_licence_on_the_page(make_licences: ModuleType) -> None:
    assert make_licences.missing() == [], "run: python docs/make_licences.py"
    assert {"torch", "fiftyone", "pyyaml", "importlib-metadata"} <= make_licences.direct()


def test_a_dependency_that_is_missing_from_the_page_is_named(
    make_licences: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "licences.md"
    page.write_text(make_licences.PAGE.read_text(encoding="utf-8").replace("| **scipy** | ", "| **scipy-fork** | "))
    monkeypatch.setattr(make_licences, "PAGE", page)
    assert make_licences.main(["--check"]) == 1
    assert capsys.readouterr().out == "docs/licences.md lacks scipy; run: python docs/make_licences.py\n"
    assert make_licences.main([]) == 0  # writes it anew
    assert make_licences.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("given", "licence"),
    [
        (fields(License_Expression="MIT", License="A text\nof many lines"), "MIT"),
        (fields(License="LGPL-2.1+", Classifier=["License :: OSI Approved :: BSD License"]), "LGPL-2.1+"),
        (
            fields(License="Copyright (c) 2001, they", Classifier=["License :: OSI Approved :: BSD License"]),
            "BSD License",
        ),
        (fields(License="UNKNOWN", Classifier=["Topic :: X", "License :: OSI Approved :: MIT License"]), "MIT License"),
        (fields(License="x" * 61), "not said"),
        (fields(), "not said"),
    ],
)
def test_a_licence_is_the_shortest_name_that_the_metadata_give(
    make_licences: ModuleType, given: Message, licence: str
) -> None:
    assert make_licences.licence_of(given) == licence


def test_copyleft_and_closed_packages_are_named(make_licences: ModuleType) -> None:
    package = make_licences.Package
    text = make_licences.page(
        [
            package("a", "LGPL-2.1"),
            package("b", "MIT"),
            package("c", "LicenseRef-NVIDIA-Proprietary"),
            package("d", "MPL-2.0"),
        ]
    )
    copyleft, _, rest = text.partition("## No free software")
    assert "- a: LGPL-2.1\n- d: MPL-2.0\n" in copyleft
    assert "- b" not in copyleft
    assert "1 packages of NVIDIA, which torch for CUDA needs: c." in rest


def test_what_is_within_packages_is_named_on_the_page(make_licences: ModuleType) -> None:
    text = make_licences.PAGE.read_text(encoding="utf-8")
    for name, what in make_licences.WITHIN.items():
        assert f"- {name}: {what}\n" in text
