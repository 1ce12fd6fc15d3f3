"""A labelled dataset becomes the samples table: where each image is, its size, digest, label, boxes and status.

One reader a format; each yields :class:`~stages.ingest.record.Record` and passes the suite in
``tests/stages/ingest/readers/test_readers.py``.
"""
