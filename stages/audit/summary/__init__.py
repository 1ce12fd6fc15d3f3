"""What the end of a run and the head of its report say of the findings."""
