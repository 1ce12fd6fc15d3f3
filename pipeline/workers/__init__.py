"""Where a run computes: Dask workers, a map over them, and what each of their tasks does."""
