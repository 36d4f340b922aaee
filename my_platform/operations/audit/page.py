"""The page of service levels and findings: a single file that loads nothing.

It is written by a command and a job beside the other reports and is no asset: it tells of the clock, which no value
that is hashed may depend on, and it would be stale a minute after it was computed.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
body{margin:0;background:#fafafa;color:#222;font:15px/1.45 system-ui,sans-serif}
main{max-width:1240px;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
.scroll{overflow-x:auto;background:#fff;border:1px solid #ddd}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #eee}
th{font-weight:600;color:#555;background:#f4f4f4}
.short td{white-space:nowrap}
.met{color:#17692f;font-weight:600}.missed{color:#b3261e;font-weight:600}.none{color:#767676}
"""


def page_path(reports: Path) -> Path:
    """Where the page lies below the folder of reports."""
    return reports / "service-levels" / "index.html"


def service_level_page(found: Mapping[str, Any]) -> str:
    """The page as HTML, of what `my-platform audit --json` prints."""
    levels = found["service_levels"]
    missed = sum(level["met"] is False for level in levels)
    met = sum(level["met"] is True for level in levels)
    lines = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Service levels</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main><h1>Service levels</h1>",
        f"<p>The last {found['days']} days before {escape(found['at'])}: {met} met, {missed} missed.</p>",
        _table(
            ["", "of", "cases", "measured", "target", "kept", ""],
            ([*map(escape, _level(level)), _verdict(level["met"])] for level in levels),
            kind="short",
        ),
        "<h2>Where time goes, and what to do</h2>",
        _table(
            ["what", "figure", "evidence", "what to do", "saves at most"],
            (
                [
                    escape(one["what"]),
                    escape(one["figure"]),
                    "<br>".join(map(escape, one["evidence"])),
                    escape(one["do"]),
                    f"{one['saves_s']:,.1f} s",
                ]
                for one in found["findings"]
            ),
        )
        if found["findings"]
        else "<p>Nothing was found.</p>",
        "<h2>From change to report</h2>",
        _table(
            ["report", "at", "seconds", "changed"],
            (
                [
                    escape(e["report"]),
                    escape(e["at"]),
                    f"{e['seconds']:,.1f}",
                    escape(", ".join(e["changed"])),
                ]
                for e in found["experiments"]
            ),
        )
        if found["experiments"]
        else "<p>No code was changed.</p>",
        *(f"<p class=none>{escape(each)}</p>" for each in found["untold"]),
        "</main></body></html>\n",
    ]
    return "\n".join(lines)


def _level(level: Mapping[str, Any]) -> list[str]:
    share = "" if level["share"] is None else f"{level['share']:.0%}"
    return [level["name"], level["about"], f"{level['cases']:,}", level["figure"], level["target"], share]


def _verdict(met: bool | None) -> str:
    word = {True: "met", False: "missed", None: "none"}[met]
    return f'<span class="{word}">{word if met is not None else "no case"}</span>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "long") -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll {kind}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
