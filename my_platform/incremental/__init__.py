"""The heart: data versions, code versions, fingerprints, traces and the planner."""
