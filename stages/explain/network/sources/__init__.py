"""Where classifiers come from, and what their libraries do to an image before the network sees it."""
