"""Control: what runs, where, in which order."""
