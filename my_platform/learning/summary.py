"""What the command line shows of the figures of a week."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Summary:
    """Some lines, and a table below them."""

    lines: Sequence[str]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary(figures: Mapping[str, Any]) -> Summary:
    """The spans of a week's rows and the figures of its models.

    Args:
        figures: as an evaluation keeps them: week, model, train and test (from, to, rows), and by name of a model its
            figures.
    """
    spans = [
        f"  {part}: {span['from']} to {span['to']}, {span['rows']:,} rows{without(span)}"
        for part, span in (("train", figures["train"]), ("test", figures["test"]))
    ]
    names = list(dict.fromkeys(name for found in figures["models"].values() for name in found))
    rows = [
        [model, *(f"{found[name]:,.3f}" if found.get(name) is not None else "" for name in names)]
        for model, found in figures["models"].items()
    ]
    heading = f"week {figures['week']}, {figures['model']}"
    return Summary([heading, *spans], ["model", *(name.replace("_", " ") for name in names)], rows)


def without(span: Mapping[str, Any]) -> str:
    """The days of a span on which there was no row, in words; nothing where there are none."""
    return f", without {', '.join(span['days_without_rows'])}" if "days_without_rows" in span else ""
