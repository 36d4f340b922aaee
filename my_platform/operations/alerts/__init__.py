"""Alerts: what somebody has to know, said once when it begins and once when it ends."""
