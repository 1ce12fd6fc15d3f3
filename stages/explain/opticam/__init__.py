"""Opti-CAM: the library, which needs torch alone."""
