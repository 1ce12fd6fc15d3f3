"""Annotations as reviewers corrected them, in the formats of other tools."""
