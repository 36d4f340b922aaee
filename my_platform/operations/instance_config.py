"""What the Dagster instance of a home is configured with."""

from my_platform.settings import CHECKOUT

# The line by which a home's configuration tells its profile.
MARK = "# profile: "
# Not in the checkout's file: this storage looks for its files in DAGSTER_HOME, which a throwaway instance, as
# `dg check defs` makes one, has not.
_EVENT_LOG = """
# Dagster's own event log, but with its connections kept open: several times faster, on the same files.
# Where `storage` names Postgres, this goes.
event_log_storage:
  module: my_platform.operations.event_log
  class: OpenSqliteEventLogStorage
"""


def instance_config(profile: str = "embedded") -> str:
    """The configuration of a new home's instance: the profile's, or the checkout's with the faster event log."""
    if profile != "embedded":
        return (CHECKOUT / "deploy" / profile / "dagster.yaml").read_text()
    text = (CHECKOUT / "dagster.yaml").read_text()
    named = any(line.startswith(("storage:", "event_log_storage:")) for line in text.splitlines())
    return text if named else text + _EVENT_LOG
