"""Retraining by policy: the facts it is held against, the decisions it comes to, and the sensor that asks it."""
