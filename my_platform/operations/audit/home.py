"""The audit of a home, as JSON values."""

from datetime import UTC, datetime
from typing import Any

from my_platform.operations.audit.facts import history, spendings
from my_platform.operations.audit.findings import findings
from my_platform.operations.audit.levels import Targets, experiments, levels
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.platform import Workspace
from my_platform.settings import Settings


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
        "untold": _untold(
            workspace, bool(spent.ledger), any(cost.gpu_s for cost in spent.ledger), bool(past.promoted)
        ),
    }


def _untold(workspace: Workspace, computed: bool, on_gpu: bool, promoted: bool) -> list[str]:
    found = []
    if not any(landed.digests for landed in workspace.landed.values()):
        found.append("no file has landed: land one, or run `my-platform simulate`")
    if not computed:
        found.append("nothing was computed: run `my-platform refresh`")
    if not promoted:
        found.append("no model was promoted: there is no time to a deployed model, and no rollback")
    if on_gpu:
        found.append(
            "how long devices waited for data is not recorded: the ledger has the seconds they were held"
        )
    return found
