"""What an image is to a run: its samples, their names, and what is to be said of their masks."""
