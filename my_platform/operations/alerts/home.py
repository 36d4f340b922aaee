"""The alerts of a home: what is looked at, and who is told."""

import functools
import time

from my_platform.operations.alerts.channels import channels_of
from my_platform.operations.alerts.facts import look
from my_platform.operations.alerts.telling import Look, Teller, Told
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.platform import Workspace
from my_platform.settings import Settings


def teller_of(settings: Settings) -> Teller:
    """Who says the alerts of a home; raises PlatformError where the settings do not go together."""
    return Teller(settings.alerts, channels_of(settings), repeat_s=settings.alert_repeat_h * 3_600)


def look_at(settings: Settings, workspace: Workspace, heads: DagsterHeads) -> Look:
    """A look at a home."""
    return functools.partial(look, settings, workspace, heads)


def tell_alerts(settings: Settings, workspace: Workspace, heads: DagsterHeads) -> Told:
    """Look at a home once, and send what there is to say."""
    return teller_of(settings).tell(look_at(settings, workspace, heads), time.time())
