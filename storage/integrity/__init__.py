"""That a run holds what was written: one writer, a checksum in each file, and what to do where one is wrong."""
