"""The report's style sheet: one column of text beside one of figures, in the reader's own theme."""

from __future__ import annotations

_LIGHT = """
  --paper: #fbfcfd; --panel: #f1f4f6; --ink: #121a22; --muted: #51606e; --grid: #dde3e8; --axis: #8b98a4;
  --teal: #00766c; --orange: #b3480a; --violet: #6246b5; --blue: #1c63b0; --rose: #a3285f; --heat: #14a394;
"""
_DARK = """
  --paper: #0f151b; --panel: #18212a; --ink: #e9eef2; --muted: #9cabb8; --grid: #27323c; --axis: #5f707e;
  --teal: #4fd1c0; --orange: #ff9d61; --violet: #b8a3ff; --blue: #7ab8ff; --rose: #ff8fbd; --heat: #1f9384;
"""

# The colours of every page of ours, in the reader's own theme.
THEME = (
    ":root { color-scheme: light dark;" + _LIGHT + "}\n@media (prefers-color-scheme: dark) { :root {" + _DARK + "} }\n"
)

CSS = (
    THEME
    + "@media print { :root { color-scheme: light;"
    + _LIGHT
    + """} }
html { font-size: max(clamp(16px, 0.42vw + 10.5px, 19px), 0.9vw); -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: clamp(1.25rem, 4vw, 3.5rem) clamp(1rem, 4vw, 3rem) 4rem; max-width: 72rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.55 Inter, "Segoe UI", system-ui, sans-serif;
  overflow-wrap: anywhere; }
* { box-sizing: border-box; }
p, ul, ol, figure, pre, dl, dd { margin: 0; }
h1, h2, h3 { line-height: 1.15; letter-spacing: -0.02em; font-weight: 650; margin: 0; text-wrap: balance; }
h1 { font-size: clamp(2rem, 1.3rem + 2.6vw, 3.1rem); letter-spacing: -0.032em; max-width: 20em; }
h2 { font-size: 1.3rem; }
h3 { font-size: 1rem; letter-spacing: -0.01em; }
.mark-line { display: flex; align-items: center; gap: .55rem; color: var(--muted); font-size: .9rem;
  margin-bottom: 1.6rem; }
.mark-line svg { width: 2.1rem; height: auto; }
.mark-line b { color: var(--ink); font-weight: 650; letter-spacing: -.01em; }
.lead { font-size: clamp(1.08rem, 1rem + .5vw, 1.3rem); line-height: 1.5; max-width: 44em; margin-top: 1rem;
  text-wrap: pretty; }
.facts { color: var(--muted); font-size: .9rem; margin-top: .9rem; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13.5rem), 1fr)); gap: 1.4rem 2rem;
  margin: 2.4rem 0 0; padding: 1.4rem 0 0; border-top: 2px solid var(--ink); }
.headline dt { font-size: .9rem; font-weight: 600; line-height: 1.3; }
.headline dd { color: var(--muted); font-size: .86rem; line-height: 1.45; }
.headline .figure { font-size: 2.7rem; line-height: 1.1; font-weight: 600; letter-spacing: -.04em; color: var(--ink);
  font-variant-numeric: tabular-nums; margin-bottom: .15rem; }
.headline div { display: flex; flex-direction: column; }
section { border-top: 1px solid var(--grid); margin-top: 2.8rem; padding-top: 1.5rem; display: grid; gap: 1.2rem 3rem; }
.words { display: flex; flex-direction: column; gap: .6rem; max-width: 40em; }
.words p { color: var(--muted); font-size: .93rem; line-height: 1.5; }
.words p.finding { color: var(--ink); }
.shown { min-width: 0; }
@media (min-width: 60rem) { section { grid-template-columns: 16.5rem minmax(0, 1fr); } }
.badge { align-self: flex-start; border: 1px solid var(--axis); border-radius: 99px; padding: .1rem .7rem;
  font-size: .8rem;
  font-weight: 600; color: var(--ink); }
.narrow { display: none; }
@media (max-width: 42rem) { .wide { display: none; } .narrow { display: block; } }
.shown svg { display: block; width: 100%; height: auto; overflow: visible; }
.key { color: var(--muted); font-size: .84rem; margin-top: .5rem; }
.key b { color: var(--ink); font-weight: 600; }
svg text { font: 12px Inter, "Segoe UI", system-ui, sans-serif; fill: var(--muted);
  font-variant-numeric: tabular-nums; }
svg .name, svg .remark { font-size: 11.5px; }
svg .label { fill: var(--ink); }
svg .count { fill: var(--ink); font-weight: 600; } svg .small { font-size: 9.5px; font-weight: 500; }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.s0 { --c: var(--teal); } .s1 { --c: var(--orange); } .s2 { --c: var(--violet); }
.s3 { --c: var(--blue); } .s4 { --c: var(--rose); } .ink { --c: var(--ink); } .quiet { --c: var(--axis); }
svg text[class*="label s"] { fill: var(--c); font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--axis); } .ideal { stroke: var(--axis); stroke-dasharray: 3 4; }
.curve { fill: none; stroke: var(--c); stroke-width: 2.4; stroke-linejoin: round; stroke-linecap: round; }
.curve.thin { stroke-width: 1.3; } .mark.thin { stroke: none; }
.band { fill: var(--c); fill-opacity: .16; } .band.thin { fill-opacity: .1; }
.whisker { stroke: var(--c); stroke-width: 2; } .mark { fill: var(--c); stroke: var(--paper); stroke-width: 1.5; }
.interval { stroke: var(--c); stroke-width: 5; stroke-opacity: .38; stroke-linecap: round; }
.mark.solid { fill: var(--ink); } .mark.hollow { fill: var(--paper); stroke: var(--muted); stroke-width: 2; }
.bar { fill: var(--heat); fill-opacity: .75; } .cell { fill: var(--heat); }
.diagonal { stroke: var(--ink); stroke-width: 1.5; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 2rem 2.5rem; }
.pair h3 + * { margin-top: .8rem; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); gap: 1.5rem; }
@media (max-width: 42rem) { .clips { grid-auto-flow: column; grid-template-columns: none; grid-auto-columns: 82%;
  overflow-x: auto; scroll-snap-type: x proximity; gap: 1rem; } .clips figure { scroll-snap-align: start; } }
.clips img { display: block; width: 100%; max-width: 24rem; height: auto; border-radius: .5rem; }
.clips figcaption { font-size: .86rem; line-height: 1.4; margin-top: .5rem; color: var(--muted); }
.clips figcaption b { color: var(--ink); font-weight: 600; }
details { margin-top: .9rem; font-size: .86rem; }
summary { color: var(--muted); cursor: pointer; padding: .25rem 0; width: fit-content; }
summary:hover, summary:focus-visible { color: var(--ink); text-decoration: underline; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; line-height: 1.35; font-variant-numeric: tabular-nums;
  min-width: 60%; }
caption { text-align: left; color: var(--muted); padding: .3rem 0 .4rem; }
th, td { text-align: left; padding: .38rem 1.1rem .38rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: baseline;
  overflow-wrap: break-word; unicode-bidi: isolate; }
thead th { color: var(--muted); font-weight: 500; } tbody th { font-weight: 500; }
.right { text-align: right; white-space: nowrap; }
tfoot td, tfoot th { font-weight: 650; border-bottom: 0; }
.stages { width: 100%; } .stages .time { width: 45%; }
.stages small { display: block; color: var(--muted); font-size: .8rem; font-weight: 400; }
.stages td.time > span { display: block; height: .6rem; border-radius: 2px; background: var(--heat); min-width: 2px; }
@media (max-width: 42rem) { .stages .time { display: none; } th, td { padding-right: .8rem; }
  .stages { min-width: 0; } }
.steps { display: grid; gap: 1.1rem; padding: 0; list-style: none; }
.steps p { font-weight: 500; margin-bottom: .35rem; }
pre { background: var(--panel); border-radius: .45rem; padding: .7rem .9rem; white-space: pre-wrap; font-size: .86rem; }
code { font-family: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, monospace; }
pre code { user-select: all; }
.notes { padding-left: 1.1rem; font-size: .93rem; display: grid; gap: .35rem; }
footer { margin-top: 3rem; padding-top: 1.2rem; border-top: 1px solid var(--grid); color: var(--muted);
  font-size: .84rem;
  display: grid; gap: .4rem; }
@page { margin: 14mm; }
@media print {
  html { font-size: 11pt; } body { padding: 0; max-width: none; background: none; }
  section:not(:has(.clips)), figure, tr, .headline div, .pair > div, .steps li { break-inside: avoid; }
  h2, h3, .words { break-after: avoid; }
  section { display: block; margin-top: 1.6rem; padding-top: 1rem; }
  .shown { margin-top: 1rem; } details { display: none; }
  .clips { grid-template-columns: repeat(4, 1fr); gap: 1rem; }
  svg, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .stages td.time > span, .clips img { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
