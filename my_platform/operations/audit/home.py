"""The audit of a home, as JSON values and as a page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.operations.audit.facts import history, spendings
from my_platform.operations.audit.findings import findings
from my_platform.operations.audit.levels import Targets, experiments, levels
from my_platform.operations.audit.page import page_path, service_level_page
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.platform import Workspace
from my_platform.settings import Settings
from my_platform.storage.objects import replace_file
from my_platform.storage.trace_index import Cost


def audit(
    settings: Settings, workspace: Workspace, heads: DagsterHeads, now_s: float, days: int
) -> dict[str, Any]:
    """What was found, the service levels of the last days, and what there is nothing to tell of from."""
    workspace.look()
    spent, past = spendings(workspace, heads.instance), history(workspace, heads)
    targets = Targets(settings.fresh_within_h, settings.deployed_within_h)
    return {
        "at": datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds"),
        "days": days,
        "computed": len(spent.ledger),
        "wall_seconds": round(sum(cost.wall_s for cost in spent.ledger), 3),
        "findings": [finding.as_json() for finding in findings(spent)],
        "experiments": experiments(past, now_s - days * 86_400),
        "service_levels": [level.as_json() for level in levels(past, targets, now_s, days)],
        "untold": _untold(workspace, spent.ledger, bool(past.promoted)),
    }


def write_page(reports: Path, found: Mapping[str, Any]) -> Path:
    """Write the page of an audit below the folder of reports; where it lies.

    Raises:
        PlatformError: it cannot be written there.
    """
    path = page_path(reports)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, service_level_page(found).encode())
    except OSError as error:
        raise PlatformError(
            f"{path} cannot be written: {error.strerror}; give the user of this process the right to write there"
        ) from error
    return path


def _untold(workspace: Workspace, ledger: Sequence[Cost], promoted: bool) -> list[str]:
    found = []
    if not any(landed.digests for landed in workspace.landed.values()):
        found.append("no file has landed: land one, or run `my-platform simulate`")
    if not ledger:
        found.append("nothing was computed: run `my-platform refresh`")
    if not promoted:
        found.append("no model was promoted: there is no time to a deployed model, and no rollback")
    last = {cost.asset: cost for cost in ledger if cost.gpu_s}
    silent = sorted(name for name, cost in last.items() if cost.gpu_idle_s is None)
    if silent:
        found.append(
            f"{', '.join(silent)}: for how long the devices that they hold were idle is not known, since the functions do "
            "not tell it; let them use my_platform.learning.device_time.device_at_work"
        )
    return found
