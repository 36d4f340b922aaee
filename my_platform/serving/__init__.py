"""Scoring by row: durable state of the declared features, kept up to date event by event."""
