"""The saliency methods of a run: Opti-CAM beside those of other libraries and the null maps."""
