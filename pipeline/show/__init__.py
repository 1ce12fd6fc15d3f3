"""What is printed: a run's summary, a comparison, a sanity check, the verdicts."""
