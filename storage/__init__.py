"""Formats of a run: its layout, Zarr maps, Parquet tables and commits, on any fsspec file system.

Names are imported on first use, so that ``storage.errors`` needs nothing installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.errors import SightlineError as SightlineError
    from storage.errors import UserError as UserError
    from storage.maps import MapStore as MapStore
    from storage.run import Run as Run

_HOME = {
    "Run": "storage.run",
    "MapStore": "storage.maps",
    "SightlineError": "storage.errors",
    "UserError": "storage.errors",
}
__all__ = ["MapStore", "Run", "SightlineError", "UserError"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
