"""A labelled dataset becomes the samples table: where each image is, its size, digest, label, boxes and status.

One reader a format; each yields :class:`~stages.ingest.record.Record` and passes the suite in
``tests/stages/ingest/test_readers.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.ingest.samples import ingest as ingest
    from stages.ingest.samples import name_outputs as name_outputs
    from stages.ingest.settings import DatasetSettings as DatasetSettings

__all__ = ["DatasetSettings", "ingest", "name_outputs"]


def __getattr__(name: str) -> Any:
    if name in ("ingest", "name_outputs"):
        from stages.ingest import samples

        return getattr(samples, name)
    if name == "DatasetSettings":
        from stages.ingest.settings import DatasetSettings

        return DatasetSettings
    raise AttributeError(f"module 'stages.ingest' has no attribute {name!r}")
