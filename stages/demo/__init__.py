"""The embedded demo: a generated dataset and a trained classifier whose shortcuts are known. Start at `make.py`."""
