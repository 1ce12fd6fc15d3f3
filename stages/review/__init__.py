"""Findings into FiftyOne: a dataset a person can look through, with the maps laid over the images.

Nothing is imported here: FiftyOne takes seconds to import, and reads its configuration when it is.
"""
