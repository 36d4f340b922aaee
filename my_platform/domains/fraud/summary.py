"""What the command line shows of a week's figures, with the published ones beside them."""

from collections.abc import Mapping
from typing import Any

from my_platform.domains.fraud.report import PUBLISHED_FOR_WEEK
from my_platform.learning.stored import under_present_names
from my_platform.learning.summary import Summary, without


def beside_published(figures: Mapping[str, Any]) -> Summary:
    """The spans of a week's rows, and the three figures of its model and of the Handbook's."""
    spans = [
        f"  {part}: {span['from']} to {span['to']}, {span['rows']:,} rows, {span['frauds']:,} frauds{without(span)}"
        for part, span in (("train", figures["train"]), ("test", figures["test"]))
    ]
    shown = ("auc_roc", "average_precision", "precision_at_100")
    models = {name: under_present_names(found, shown) for name, found in figures["models"].items()}
    rows = [[name, *(f"{found[key]:.3f}" for key in shown)] for name, found in models.items()]
    rows += [
        [
            f"{p.model} (published, week 2018-08-08)",
            f"{p.auc_roc:.3f}",
            f"{p.average_precision:.3f}",
            f"{p.precision_at_k:.3f}",
        ]
        for p in PUBLISHED_FOR_WEEK
    ]
    heading = f"week {figures['week']}, {figures['model']}"
    return Summary([heading, *spans], ["model", "AUC ROC", "average precision", "CP@100"], rows)
