"""Planted experiments: datasets and classifiers whose shortcuts are known, and what an audit makes of them."""
