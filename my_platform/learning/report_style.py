"""How the evaluation report looks: one style sheet, no font or picture from elsewhere."""

STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: #0f172a; font: 14px/1.45 Helvetica, Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 40px; }
p, h1, h2, figure { margin: 0; }
h1 { font-size: 27px; letter-spacing: -.01em; margin: 2px 0 4px; }
h2 { font-size: 14px; }
code { font: 12.5px ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
header p { color: #475569; }
header .kicker {
    font-size: 12px; font-weight: bold; letter-spacing: .06em; text-transform: uppercase;
    color: #1d4ed8;
}
.headline {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(260px, 1fr)); gap: 14px;
    margin: 20px 0 14px;
}
.card, .panel, .sets { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; }
.card { padding: 14px 18px; }
.label { color: #475569; }
.value {
    font-size: 38px; font-weight: bold; letter-spacing: -.02em; line-height: 1.2;
    font-variant-numeric: tabular-nums;
}
.range { font-size: 14px; font-weight: normal; letter-spacing: 0; color: #475569; white-space: nowrap; }
.beside { font-size: 12.5px; color: #64748b; }
.date { white-space: nowrap; }
.better, .worse { padding: 1px 6px; border-radius: 4px; }
.better { color: #166534; background: #dcfce7; }
.worse { color: #9a3412; background: #ffedd5; }
.sets {
    display: flex; flex-wrap: wrap; gap: 4px 40px; padding: 10px 18px; margin-bottom: 14px;
    color: #334155;
}
.figures, .tables {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
    gap: 14px; align-items: start;
}
.tables { margin-top: 14px; }
.panel { padding: 14px 18px; min-width: 0; }
figcaption {
    display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 6px; font-size: 12.5px;
    color: #475569;
}
.key::before {
    content: ""; display: inline-block; width: 14px; height: 10px; margin-right: 6px;
    border-radius: 2px;
}
.key-line::before { height: 0; border-top: 2px solid #1d4ed8; vertical-align: 4px; border-radius: 0; }
.key-reference::before { height: 0; border-top: 2px dashed #64748b; vertical-align: 4px; border-radius: 0; }
.key-bar::before { background: #3b6fd8; }
.key-pale::before { background: #dbe3ef; }
.key-negative::before { background: #94a3b8; }
.key-positive::before { background: #d9480f; }
table { width: 100%; border-collapse: collapse; margin-top: 8px; font-size: 13px; }
th, td {
    padding: 5px 8px; text-align: right; border-bottom: 1px solid #eef2f6;
    font-variant-numeric: tabular-nums;
}
td { white-space: nowrap; }
td:first-child, .facts td, .group td, td.said { white-space: normal; }
td.said, th.said { text-align: left; }
th { color: #475569; font-weight: normal; }
th:first-child, td:first-child, .facts td { text-align: left; }
.facts td:first-child { width: 38%; color: #475569; }
.own td { font-weight: bold; background: #eff6ff; }
.group td { padding-top: 12px; color: #475569; font-size: 12.5px; }
.warning { margin-top: 6px; padding: 6px 10px; background: #fff7ed; border-left: 3px solid #d9480f; }
.note { margin-top: 8px; font-size: 12px; color: #64748b; }
@media print { body { background: #fff; } .panel, .card { break-inside: avoid; } }
"""
