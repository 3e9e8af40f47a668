"""The check as one page: what is in the data set, each rule, and Great Expectations' Data Docs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wan_r1.reports import Clip, Html, Pane, Section, fold, note, page, table, video_grid
from wan_r1.tasks.video import MediaError, decode_image, decode_video
from wan_r1.validate_tasks.contract import Outcome, Rule

if TYPE_CHECKING:
    import pandas as pd


def report_page(
    outcomes: dict[str, Outcome], rows: pd.DataFrame | None, samples: Sequence[Mapping[str, Any]], shown: int
) -> str:
    """A self-contained page.

    Args:
        outcomes: the suites by what they check.
        rows: the rows with their facts; ``None`` if the files could not be read.
        samples: some rows of the data set, with their media, to show.
        shown: broken rows listed for each rule.
    """
    rules = [rule for outcome in outcomes.values() for rule in outcome.rules]
    broken = [rule for rule in rules if not rule.holds]
    lead = f"All {len(rules)} rules hold." if not broken else f"{len(broken)} of {len(rules)} rules are broken."
    sections = [_broken_section(broken, shown)] if broken else []
    if rows is not None:
        sections.append(Section("What is in it", [_contents(rows)]))
        sections.append(Section("How it looks", [video_grid([clip for row in samples if (clip := _clip(row))])]))
    lines = [_line(rule) for rule in rules]
    sections.append(Section("Rules", [table(lines, caption="Each rule, and on how many rows it was checked")]))
    docs = [fold(f"Suite {name!r}", Html(_data_docs(outcome.result))) for name, outcome in outcomes.items()]
    sections.append(
        Section("Data Docs", [note("As Great Expectations renders them, without the files it would fetch."), *docs])
    )
    return page("Check of the data set", sections, lead=lead)


def _broken_section(broken: list[Rule], shown: int) -> Section:
    lines = [
        {"rule": rule.name, "file": p["file"], "row": p["row"], "level": p["level_id"], "found": p["notes"]}
        for rule in broken
        for p in rule.broken[:shown]
    ]
    lines += [{"rule": rule.name, "found": rule.found} for rule in broken if not rule.broken]
    return Section("Broken rows", [table(lines, caption=f"The first {shown} rows that break each rule")])


def _line(rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "holds": "yes" if rule.holds else "no",
        "checked": rule.checked,
        "broken": len(rule.broken),
        "in words": rule.text,
    }


def _contents(rows: pd.DataFrame) -> Html:
    counts = Counter(zip(rows["split"], rows["family"], rows["difficulty"], strict=True))
    lines = []
    for (split, family, difficulty), count in sorted(counts.items(), key=str):
        chosen = rows[(rows["split"] == split) & (rows["family"] == family) & (rows["difficulty"] == difficulty)]
        lines.append(
            {
                "split": split,
                "family": family,
                "difficulty": difficulty,
                "levels": count,
                "textures": ", ".join(f"{name} {n}" for name, n in sorted(Counter(chosen["texture"]).items(), key=str)),
                "shortest": int(chosen["steps"].min()),
                "longest": int(chosen["steps"].max()),
                "mean moves": float(chosen["steps"].mean()),
            }
        )
    return table(lines, caption="Levels by split, family and difficulty; moves of their solutions", row_headers=3)


def _clip(row: Mapping[str, Any]) -> Clip | None:
    """A row's video, or its first frame if it has none; ``None`` if neither can be read."""
    try:
        media = row["video"]
        frames = decode_video(media["bytes"]) if media else decode_image(row["first_frame"]["bytes"])[None]
    except (MediaError, TypeError):
        return None
    pane = Pane(label=row["split"], frames=frames, lines=[f"{row['steps']} moves", row["level_id"]])
    return Clip(title=f"{row['family']}, {row['difficulty']}, {row['texture']}", panes=[pane])


def _data_docs(result: Any) -> str:
    """Great Expectations' sections for a result, its icons as characters and without links to pages we do not make."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    document = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    parts = [
        DefaultJinjaSectionView().render({"section": section.to_json_dict(), "section_loop": {"index": number}})
        for number, section in enumerate(document.sections, 1)
    ]
    text = "".join(parts)
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    text = re.sub(r'<i class="fas fa-check-circle[^>]*>\s*</i>', "passed ", text)
    text = re.sub(r'<i class="fas fa-[^>]*>\s*</i>', "failed ", text)
    text = re.sub(r'<a href="\.\./[^>]*>(.*?)</a>', r"\1", text, flags=re.DOTALL)
    text = re.sub(r"(?:passed|failed)\s+(?=Succeeded|Failed)", "", text)
    text = text.replace("<table", '<div class="scroll"><table').replace("</table>", "</table></div>")
    # Its ids count from 1 in each suite; nothing refers to them here.
    return re.sub(r'\s(?:id|style|data-[a-z-]+)="[^"]*"', "", text)
