"""What the gate found of a candidate, as a section of an evaluation report."""

from html import escape

from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.gate import Verdict
from my_platform.learning.measure import Measure

MARK = "<!-- the gate's verdict -->"
"""Where a report leaves room for the section; one that was never judged shows nothing there."""


def gate_section(
    candidate: str, champion: str | None, verdict: Verdict, measure: Measure = AVERAGE_PRECISION
) -> str:
    """The verdict with its reasons, and the gain over the champion with the slices, as HTML."""
    case, counted = verdict.case, escape(measure.counted).capitalize()
    lines = ['<section class="tables"><div class="panel"><h2>Against the champion</h2>']
    lines.append(
        f'<p class="note">{escape(candidate)} {"passed the gate" if verdict.passed else "did not pass the gate"}, '
        + (
            f"champion then: {escape(champion)}, as a {case.kind}."
            if champion
            else "where nothing served yet."
        )
        + "</p>"
    )
    if case.gain is not None:
        weeks = f"{len(case.compared)} weeks, {case.compared[0]} to {case.compared[-1]}"
        lines.append(
            f"<p>{escape(case.gained).capitalize()} <b>{case.gain.value:+.4f}</b> "
            f'<span class="range">{case.gain.low:+.4f} to {case.gain.high:+.4f}</span> over {weeks}</p>'
        )
    lines.append(
        '<table><thead><tr><th>Rule</th><th></th><th class="said">What was found</th></tr></thead><tbody>'
    )
    for reason in verdict.reasons:
        kept = "kept" if reason.kept else '<b class="worse">broken</b>'
        lines.append(
            f'<tr><td>{escape(reason.rule)}</td><td>{kept}</td><td class="said">{escape(reason.said)}</td></tr>'
        )
    lines.append("</tbody></table></div>")
    if case.slices:
        lines.append(
            f'<div class="panel"><h2>Gain by slice</h2><table><thead><tr><th>Slice</th><th>{counted}</th>'
        )
        lines.append(f"<th>{escape(case.gained).capitalize()}</th></tr></thead><tbody>")
        for part in case.slices:
            lines.append(
                f"<tr><td>{escape(part.name)}</td><td>{part.positives:,}</td><td>{part.gain:+.4f}</td></tr>"
            )
        lines.append("</tbody></table></div>")
    return "\n".join([*lines, "</section>"])
