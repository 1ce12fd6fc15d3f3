"""Settings of the dataset section of a pipeline's config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True)
class DatasetSettings:
    """Which dataset, and which part of it. Paths are local or fsspec URLs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    reader: Literal["manifest", "imagenet"]
    """``manifest``: CSV or Parquet of path, label, boxes; ``imagenet``: ILSVRC CLS-LOC."""
    path: str
    """The manifest; or the folder that holds ``LOC_*_solution.csv``, or that file itself."""
    images: str | None = None
    """Folder of the images; by default the manifest's folder, or what ILSVRC's layout says."""
    synsets: str | None = None
    """``LOC_synset_mapping.txt``, line k = class index k; by default beside the solution. imagenet only."""
    split: str | None = None
    """Take only this split: a value of the manifest's column ``split``, or ``val`` of ``LOC_val_solution.csv``."""
    truth: str | None = None
    """Parquet of known causes, where the dataset was made with them; only ``audit`` reads it."""
    limit: int | None = None
    """Take a seeded sample of at most this many images."""
    seed: int = 0
    """Seed of that sample."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; take at least 1, or leave it out for all images")
