"""The work, one package a stage, in the order the data flows: ingest, explain, score, audit, review."""
