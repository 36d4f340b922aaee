"""Marts for analysts: daily tables that dbt makes with DuckDB from the platform's own partitions.

dbt is an engine here, not a scheduler. A mart is an asset like any other: the platform knows from
``manifest.load_marts`` what it reads and what its code is, hands the files of exactly those partitions to
``runner.run_marts``, and stores what comes back by day. ``publish.publish_database`` then gives analysts one
DuckDB file with the rows of the current days.
"""
