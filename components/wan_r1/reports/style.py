"""What a report looks like: one style sheet and one script, both inlined in the page.

Colours follow the reader's light or dark preference. Lines of a plot differ by colour (the palette of Okabe and Ito,
which colour-blind readers can tell apart, https://jfly.uni-koeln.de/color/), by dashes and by markers.
"""

SERIES_COLOURS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8c50"),
    ("#008a65", "#35c99c"),
    ("#b8568f", "#e6a3c8"),
    ("#a87400", "#f0bc42"),
    ("#5b6770", "#aab4bd"),
)
"""(on light, on dark) per series; a plot with more series starts again with other dashes."""

_LIGHT = """
  --ground: #fbfbf9; --raised: #ffffff; --ink: #1d2329; --soft: #57616b; --line: #d9dde0; --faint: #eef0f1;
  --accent: #0b5f93; --good: #006b4e; --bad: #a93f00;
"""
_DARK = """
  --ground: #14181c; --raised: #1b2025; --ink: #e7eaec; --soft: #a3adb6; --line: #353d45; --faint: #232a30;
  --accent: #7cc4f0; --good: #4fd0a7; --bad: #ff9b66;
"""

_PAGE = """
:root { color-scheme: light dark; %(light)s }
@media (prefers-color-scheme: dark) { :root { %(dark)s } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
.lead { color: var(--soft); font-size: 1.05rem; }
.note { color: var(--soft); font-size: .875rem; }
a { color: var(--accent); }
code { font: .875em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1rem 0 0; padding: .6rem 0;
  border-block: 1px solid var(--line); font-size: .9rem; }
nav a { text-decoration: none; } nav a:hover { text-decoration: underline; }
ul.findings { max-width: 46rem; padding-left: 1.2rem; } ul.findings li { margin: .35rem 0; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--raised); }
.scroll:focus-visible, button:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%%; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .7rem .8rem .5rem; color: var(--soft); }
caption span { display: block; position: sticky; left: .8rem; max-width: min(46rem, calc(100vw - 4rem)); }
th, td { padding: .4rem .7rem; text-align: left; vertical-align: baseline; white-space: nowrap; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
td.number, th.number { text-align: right; }
thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--faint); }
tbody tr.group > * { border-top: 1px solid var(--line); }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%%, 25rem), 1fr)); gap: 1rem;
  margin: 1rem 0; align-items: start; }
figure { margin: 0; }
figure.plot { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; }
figure.plot figcaption { font-size: .875rem; font-weight: 600; margin-bottom: .3rem; }
figure.plot figcaption small { display: block; font-weight: 400; font-size: .8125rem; color: var(--soft); }
figure.plot svg { display: block; width: 100%%; height: auto; }
.videos { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; align-items: flex-start; }
figure.clip { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem;
  max-width: 100%%; width: min(100%%, calc(var(--panes) * 9.25rem + 1.4rem)); }
figure.clip > p { margin: 0 0 .45rem; font-size: .8125rem; color: var(--soft); overflow-wrap: anywhere; }
figure.clip video { display: block; width: 100%%; height: auto; border-radius: .2rem;
  image-rendering: pixelated; }
figure.clip .strip { position: relative; }
figure.clip .strip i { position: absolute; top: 0; bottom: 0; background: var(--raised); }
figure.clip .captions { display: grid; grid-template-columns: repeat(var(--panes), 1fr); gap: .35rem;
  font-size: .8125rem; line-height: 1.35; margin-top: .45rem; }
figure.clip .captions b { display: block; font-weight: 600; }
figure.clip .captions span { display: block; overflow-wrap: anywhere; }
ul.timeline { list-style: none; margin: .5rem 0 0; padding: 0; font-size: .8125rem; line-height: 1.35; }
ul.timeline li { margin: .3rem 0; overflow-wrap: anywhere; }
ul.timeline b { display: block; position: relative; height: .5rem; background: var(--faint); border-radius: .15rem;
  overflow: hidden; }
ul.timeline i { position: absolute; top: 0; bottom: 0; background: var(--bad); }
figure.clip > p.yes { color: var(--good); margin: .5rem 0 0; }
.yes { color: var(--good); } .no { color: var(--bad); }
button { font: inherit; font-size: .875rem; color: var(--accent); background: var(--raised);
  border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .8rem; cursor: pointer; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .8125rem; }
@media (max-width: 40rem) {
  main { padding: 1.25rem .9rem 3rem; } h1 { font-size: 1.4rem; }
  th, td { padding: .35rem .55rem; } table { font-size: .8125rem; }
}
@media print { button, nav { display: none; } .scroll, figure { break-inside: avoid; } }
"""

_PLOT = """
svg.chart text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: %(ink)s; }
svg.chart text.soft { fill: %(soft)s; }
svg.chart text.title { font-weight: 600; font-size: 13px; }
svg.chart .grid { stroke: %(line)s; stroke-width: 1; }
svg.chart .axis { stroke: %(soft)s; stroke-width: 1; }
svg.chart .back { fill: %(raised)s; }
svg.chart .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg.chart .band { stroke: none; opacity: .16; }
"""

SCRIPT = """
(() => {
  const videos = [...document.querySelectorAll("video")];
  const button = document.querySelector("#play-pause");
  if (!videos.length || !button) return;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const apply = () => {
    for (const video of videos) playing ? video.play().catch(() => {}) : video.pause();
    button.textContent = playing ? "Pause all videos" : "Play all videos";
  };
  button.hidden = false;
  button.addEventListener("click", () => { playing = !playing; apply(); });
  apply();
})();
"""
"""Starts and stops all videos; a reader who prefers reduced motion gets them stopped."""


def _series_rules(tone: int) -> str:
    rules = []
    for number, colours in enumerate(SERIES_COLOURS):
        colour = colours[tone]
        rules.append(f"svg.chart .curve.s{number}, svg.chart .rule.s{number} {{ stroke: {colour}; }}")
        rules.append(f"svg.chart .band.s{number}, svg.chart .dot.s{number} {{ fill: {colour}; }}")
    return "\n".join(rules)


def _variables(block: str) -> dict[str, str]:
    pairs = (entry.split(":") for entry in block.replace("\n", " ").split(";") if ":" in entry)
    return {name.strip().removeprefix("--"): value.strip() for name, value in pairs}


def plot_style() -> str:
    """Rules of the charts alone, with colours written out: what an SVG file on its own needs."""
    light = _PLOT % _variables(_LIGHT) + _series_rules(0)
    dark = _PLOT % _variables(_DARK) + _series_rules(1)
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def page_style() -> str:
    """The whole style sheet of a page, charts included."""
    return _PAGE % {"light": _LIGHT, "dark": _DARK} + plot_style()
