"""The network that is explained: its weights, its view of an image, its device."""
