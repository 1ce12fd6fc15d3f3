"""Maps, boxes and probes to scores. No network, no images; the kernels need numpy and scipy alone.

Every kernel takes a batch and returns one float64 a sample. Undefined is NaN: never zero, never a miss.
"""
