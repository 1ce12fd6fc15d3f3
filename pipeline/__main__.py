"""``python -m pipeline`` is the same as ``sightline``."""

from pipeline.cli import main

main()
