"""The embedded demo: a generated dataset and classifier whose shortcuts are known. Start at `make.py`."""
