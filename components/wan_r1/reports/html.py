"""Self-contained HTML pages: what is shown is in the file, and nothing is fetched from anywhere.

A page is a title and sections; a section is a heading and blocks. Plain text is escaped; what is markup already has the
type `Html`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wan_r1.reports.style import SCRIPT, page_style

UNDEFINED = "\N{EN DASH}"
"""Shown where a value is undefined (no data, or not a number)."""

# The policy makes "no external request" a property that the browser enforces, not a hope.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:; "
    "base-uri 'none'; form-action 'none'"
)


class Html(str):
    """Text that is markup already and is not escaped again."""


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading; ``blocks`` that are plain text become paragraphs."""

    title: str
    blocks: Sequence[str]


def escape(value: object) -> Html:
    """``value`` as text that is safe inside markup; `Html` stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[str]) -> Html:
    """Parts of markup one after the other; plain text among them is escaped."""
    return Html("".join(escape(part) for part in parts))


def page(title: str, sections: Sequence[Section], *, lead: str = "", footer: str = "") -> str:
    """A whole page.

    Args:
        title: heading and window title.
        sections: parts in order; from three on they get a table of contents.
        lead: one or two sentences below the heading.
        footer: where the page comes from, at its end.
    """
    anchors = _anchors(section.title for section in sections)
    contents = ""
    if len(sections) >= 3:
        links = (f'<li><a href="#{a}">{escape(s.title)}</a></li>' for a, s in zip(anchors, sections, strict=True))
        contents = f'<nav aria-label="Contents"><ul>{"".join(links)}</ul></nav>'
    parts = [
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(section.title)}</h2>'
        + "".join(_block(block) for block in section.blocks)
        + "</section>"
        for anchor, section in zip(anchors, sections, strict=True)
    ]
    has_video = any("<video" in part for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{page_style()}</style>\n</head>\n'
        f"<body>\n<main>\n<header><h1>{escape(title)}</h1>"
        + (f'<p class="lead">{escape(lead)}</p>' if lead else "")
        + contents
        + "</header>\n"
        + "\n".join(parts)
        + (f"\n<footer>{escape(footer)}</footer>" if footer else "")
        + "\n</main>\n"
        + (f"<script>{SCRIPT}</script>\n" if has_video else "")
        + "</body>\n</html>\n"
    )


def note(text: str) -> Html:
    """A paragraph in small, quiet type."""
    return Html(f'<p class="note">{escape(text)}</p>')


def bullet_list(items: Iterable[str]) -> Html:
    """Statements as a list."""
    return Html('<ul class="findings">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>")


def fold(summary: str, *blocks: str) -> Html:
    """Blocks that are shown on demand, below a line that says what they are."""
    return Html(f"<details><summary>{escape(summary)}</summary>{''.join(_block(b) for b in blocks)}</details>")


def table(
    rows: Sequence[Mapping[str, Any]],
    *,
    caption: str,
    columns: Mapping[str, str] | None = None,
    formats: Mapping[str, Callable[[Any], str]] | None = None,
    row_headers: int = 1,
    group_by: str | None = None,
) -> Html:
    """Rows as a table that scrolls sideways on narrow screens.

    Args:
        rows: one mapping a row (``frame.to_dict("records")`` for pandas); a missing key is an undefined value.
        caption: what the table shows; read aloud before it.
        columns: heading by key, in order; default: the keys of the first row.
        formats: a function from value to text by key; default `show`.
        row_headers: how many leading columns name the row.
        group_by: key whose change draws a line between rows.
    """
    columns = columns or {key: key for key in (rows[0] if rows else {})}
    formats = formats or {}
    numeric = {key for key in columns if any(_is_number(row.get(key)) for row in rows) or key in formats}
    head = "".join(
        f'<th scope="col"{_class(key in numeric and "number")}>{escape(heading)}</th>'
        for key, heading in columns.items()
    )
    body: list[str] = []
    previous = None
    for row in rows:
        cells = []
        for place, key in enumerate(columns):
            value = row.get(key)
            shown = UNDEFINED if _is_undefined(value) else formats.get(key, show)(value)
            if place < row_headers:
                cells.append(f'<th scope="row">{escape(shown)}</th>')
            else:
                kind = "number" if key in numeric else "wrap" if len(shown) > 60 else ""
                cells.append(f"<td{_class(kind)}>{escape(shown)}</td>")
        group = row.get(group_by) if group_by else None
        body.append(f"<tr{_class(body and group != previous and 'group')}>{''.join(cells)}</tr>")
        previous = group
    if not body:
        body = [f'<tr><td colspan="{max(1, len(columns))}">no rows</td></tr>']
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def show(value: object) -> str:
    """A value as a reader expects it: yes and no, three decimals, no trailing noise in large numbers."""
    if _is_undefined(value):
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        size = abs(value)
        if value == 0 or (value.is_integer() and size < 1e6):
            return f"{value:.0f}"
        return f"{value:.2e}" if size < 1e-3 or size >= 1e6 else f"{value:.3f}" if size < 10 else f"{value:.1f}"
    return value if isinstance(value, Html) else str(value)


def percent(value: float | None) -> str:
    """A rate in [0, 1] in percent with one decimal."""
    return UNDEFINED if _is_undefined(value) else f"{100 * value:.1f} %"  # type: ignore[operator]


def percent_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A rate with its interval: ``61.3 % (54.9 to 67.3)``."""
    if _is_undefined(value) or _is_undefined(low) or _is_undefined(high):
        return percent(value)
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"  # type: ignore[operator]


def duration(seconds: float) -> str:
    """Seconds as people say them: ``8.2 s``, ``4 min 05 s``, ``1 h 02 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in binary units: ``512 B``, ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _block(block: str) -> str:
    return block if isinstance(block, Html) else f"<p>{escape(block)}</p>"


def _class(name: str | bool | list) -> str:
    return f' class="{name}"' if name and isinstance(name, str) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_undefined(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _anchors(titles: Iterable[str]) -> list[str]:
    anchors: list[str] = []
    for title in titles:
        anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        while anchor in anchors:
            anchor += "-more"
        anchors.append(anchor)
    return anchors
