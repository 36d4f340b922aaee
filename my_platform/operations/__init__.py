"""Runs: Dagster assets, refresh, sensors, and what executes partitions."""
