"""A Dagster machine-learning platform that computes exactly the partitions that are owed."""
