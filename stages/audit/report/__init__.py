"""A run as one page that needs nothing else: numbers with intervals, charts, and what each rule and cue found."""

from stages.audit.report.contents import Contents, gather
from stages.audit.report.page import environment_of_pages, render

__all__ = ["Contents", "environment_of_pages", "gather", "render"]
