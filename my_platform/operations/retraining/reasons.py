"""Why models are fitted, as it stands on the Dagster runs that fit them."""

from collections.abc import Collection, Iterable, Mapping

from my_platform.incremental.declare import ordinal
from my_platform.operations.platform import Workspace

REASON_TAG = "my_platform/retraining"
_LONGEST = 400


def reason_tags(workspace: Workspace, fitted: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The tag of a run that fits these weeks, by model; none where no policy decided on any of them."""
    said = [
        f"{model} {week}: {reason}"
        for model in sorted(fitted)
        if model in workspace.project.policies
        for week in sorted(fitted[model])
        if (reason := workspace.why_fitted(model, ordinal(week)))
    ]
    return {REASON_TAG: _brief(said)} if said else {}


def _brief(said: Collection[str]) -> str:
    """As many as there is room for; the latest week comes first, as it is the one that was asked for."""
    text = "; ".join(reversed(list(said)))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
