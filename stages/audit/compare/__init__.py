"""Two runs, or two methods of one, on the samples that both have."""
