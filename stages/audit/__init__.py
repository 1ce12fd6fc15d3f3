"""Scores to findings: rules, classes, SQL over a run, and the check against planted truth."""
