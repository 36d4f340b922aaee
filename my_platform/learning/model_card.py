"""Model cards in Markdown, made from what was recorded of a model and nothing else (Mitchell et al., 2019)."""

from collections.abc import Mapping, Sequence
from typing import Any

from my_platform.learning.budgets import Budget, Measured
from my_platform.learning.stored import under_present_names
from my_platform.learning.words import WORDS

_TESTED = "## Tested on"
_TAKES = "## Takes"
_SLICE = ("slice", "value", "rows", "positives", "average_precision", "calibration")


def model_card(
    name: str, week: str, about: Mapping[str, Any], facts: Mapping[str, Any], intended: str
) -> str:
    """The card of a fitted model.

    Args:
        about: the model's own `about.json`: train, parameters, seeds, features. Of the rows of `train` it may count some
            kind, under the word that the domain has for it.
        facts: digests and versions, by name.
        intended: what it is for and what it is not for, a few sentences of the domain.
    """
    train = about["train"]
    word, number = _counted(train)
    found = f", {number:,} of them {word} ({number / train['rows']:.2%})" if word else ""
    return "\n".join(
        [
            f"# {name}, week {week}",
            "",
            intended,
            "",
            "## Trained on",
            "",
            f"{train['rows']:,} rows of {train['from']} to {train['to']}{found}, {len(about['features'])} features.",
            "",
            "## Made by",
            "",
            *_table(
                {**about["parameters"], **{f"seed of {k}": v for k, v in about["seeds"].items()}, **facts}
            ),
            "",
        ]
    )


def with_test(card: str, figures: Mapping[str, Any]) -> str:
    """A card with the figures of its test week, as `metrics.json` holds them, in place of those it had."""
    test, threshold = figures["test"], figures.get("operating_threshold")
    word, number = _counted(test)
    rows = {name: _with_interval(found) for name, found in figures["intervals"].items()}
    rows[f"expected ÷ found {word}".rstrip()] = _with_interval(figures["calibration"])
    if threshold:
        threshold = under_present_names(threshold, ("looked_at_a_day", "score"))
        rows[f"threshold for {threshold['looked_at_a_day']} checks a day"] = f"{threshold['score']:.4f}"
    found = f", {number:,} of them {word}" if word else ""
    tested = [
        f"{test['rows']:,} rows of {test['from']} to {test['to']}{found}.",
        "",
        *_table(rows),
        "",
        *(_slices_detected(figures["slices"], word) if threshold else _slices_forecast(figures["slices"])),
    ]
    return _with_section(card, _TESTED, tested)


def _counted(span: Mapping[str, Any]) -> tuple[str, int]:
    """What is counted of the rows of a span, and how many there are; nothing where nothing is."""
    numbers = [(name, number) for name, number in span.items() if name != "rows" and isinstance(number, int)]
    return numbers[0] if numbers else ("", 0)


def _slices_detected(slices: Sequence[Mapping[str, Any]], word: str) -> list[str]:
    parts = [under_present_names(part, _SLICE) for part in slices]
    return [
        f"| slice | rows | {word or WORDS.positives} | average precision |",
        "|---|---|---|---|",
        *(
            f"| {part['slice']} = {part['value']} | {part['rows']:,} | {part['positives']:,} | "
            f"{_with_interval(part['average_precision']) if part['average_precision'] else '–'} |"
            for part in parts
        ),
    ]


def _slices_forecast(slices: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "| slice | rows | mean absolute error | naive |",
        "|---|---|---|---|",
        *(
            f"| {part['slice']} = {part['value']} | {part['rows']:,} | "
            + " | ".join("–" if part[name] is None else f"{part[name]:,.3f}" for name in ("mae", "naive"))
            + " |"
            for part in slices
        ),
    ]


def with_budget(card: str, measured: Measured, budget: Budget, native: Measured | None = None) -> str:
    """A card with what the model takes, beside its limits, in place of what it said of that.

    Args:
        native: what its own files take, where the model is served as ONNX.
    """
    lines = {
        "p99 of one row": ("{0.p99_ms:.2f} ms", "{0.p99_ms:g} ms"),
        "rows a second": ("{0.rows_per_s:,.0f}", "at least {0.rows_per_s:,.0f}"),
        "files": ("{0.file_bytes:,} bytes",) * 2,
        "memory": ("{0.memory_bytes:,} bytes",) * 2,
        "fitting": ("{0.fit_s:,.1f} s", "{0.fit_s:,.0f} s"),
    }
    if budget.fit_cpu_s is not None:
        lines["fitting, of processors"] = ("{0.fit_cpu_s:,.1f} s", "{0.fit_cpu_s:,.0f} s")
    if budget.fit_gpu_s is not None:
        lines["fitting, of devices"] = ("{0.fit_gpu_s:,.1f} s", "{0.fit_gpu_s:,.0f} s")
    with_features = {
        "p99 with its features": ("{0.p99_ms:.2f} ms", "{0.p99_ms:g} ms"),
        "rows a second with their features": ("{0.rows_per_s:,.0f}", "at least {0.rows_per_s:,.0f}"),
    }
    found = [measured] if native is None else [measured, native]
    heads = ["measured"] if native is None else ["measured, as served (ONNX)", "its own files"]
    takes = [
        "One row at a time on one thread, as measured when it was last judged.",
        "",
        f"| | {' | '.join([*heads, 'limit'])} |",
        "|---" * (len(heads) + 2) + "|",
    ]
    for name, (said, limit) in lines.items():
        cells = [*(said.format(each) for each in found), limit.format(budget)]
        takes.append(f"| {name} | {' | '.join(cells)} |")
    for name, (said, limit) in with_features.items():
        if measured.with_features is not None:
            cells = [said.format(measured.with_features), *("" for _ in found[1:])]
            takes.append(
                f"| {name} | {' | '.join(cells)} | {limit.format(budget.with_features) if budget.with_features else ''} |"
            )
    return _with_section(card, _TAKES, takes)


def _with_section(card: str, title: str, lines: list[str]) -> str:
    """The card with a section of that title, in place of the one it has; a new one comes last."""
    before, found, rest = card.partition(f"{title}\n")
    _, further, after = rest.partition("\n## ") if found else ("", "", "")
    section = "\n".join([title, "", *lines, ""])
    return before.rstrip("\n") + "\n\n" + section + (f"{further}{after}" if further else "")


def _table(rows: Mapping[str, Any]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _with_interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
