"""The project's own errors."""

from __future__ import annotations


class SightlineError(Exception):
    """A fault: something that should not happen, told with the place where it did."""


class UserError(SightlineError):
    """A mistake of the user's; the message names the place (file, row, key) and the remedy."""
