"""The parts of the commands ``explain_speed`` and ``gpu``: clock, ladder, other methods, a whole audited image."""
