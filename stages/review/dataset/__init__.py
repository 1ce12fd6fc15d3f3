"""A run as a FiftyOne dataset: its fields, samples, views and panels' contents."""
