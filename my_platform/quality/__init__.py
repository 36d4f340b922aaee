"""Contracts, quarantine and checks: which rows are let in, and what happens to the others."""
