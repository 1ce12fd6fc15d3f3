"""The FiftyOne App on a run: server, database, collecting of verdicts."""
