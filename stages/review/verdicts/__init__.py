"""What reviewers said, without FiftyOne: the table, its import, counts and agreement."""
