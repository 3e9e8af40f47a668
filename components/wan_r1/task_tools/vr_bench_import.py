"""VR-Bench's folders as our table, held against the same contract as our own; what breaks it is listed by file."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from wan_r1.config import ConfigError
from wan_r1.progress import Progress
from wan_r1.runtime import git_commit
from wan_r1.task_tools.vr_bench_rows import Form, RowError, read_prompts, read_row
from wan_r1.tasks.dataset import read_rows, write_rows
from wan_r1.tasks.schema import SPLITS, TASK_SCHEMA, DataContractError
from wan_r1.validate_tasks import ValidateTasksConfig
from wan_r1.validate_tasks.contract import check_rows
from wan_r1.validate_tasks.facts import row_facts

FAULTS_FILE = "import.json"
_SHARD_ROWS = 256
_MEDIA = ("first_frame", "video", "state", "solution", "trajectory")
_FOR_SCORING = ("solution_unique", "solution_shortest")
"""Rules that levels may break which are only scored: more than nine of ten trapfields of the benchmark have several
shortest solutions, and half of its harder pathfinders a shorter way than the one that it shows."""


def run(
    *,
    source: Path,
    output: Path,
    split: str | None = None,
    size: int | None = None,
    frames: int | None = None,
    ambiguous: bool = False,
) -> dict[str, Any]:
    """Write the levels that keep the contract as Parquet files, and a list of faults, ``import.json``.

    Args:
        source: folder in VR-Bench's layout, at any depth above ``states``.
        output: folder to write, new or empty.
        split: split of all rows; by default `train` below a folder ``train``, else `test`; what ``tasks export`` wrote
            keeps its own.
        size: height and width in pixels to bring pictures and videos to; by default they stay as they are.
        frames: frames, 4k + 1, to bring videos to; likewise.
        ambiguous: keep levels with several shortest solutions, and those whose reference is a longer one (they are
            listed as faults in any case).

    Returns:
        ``levels`` found, ``rows`` written, ``rows_by_split``, and ``faults``: ``file``, ``rule``, ``found`` of each.

    Raises:
        ConfigError: if a value cannot work, or the output holds anything.
        DataContractError: if there is no level at all, or none that can be kept.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    if frames is not None and (frames < 5 or frames % 4 != 1):
        raise ConfigError(f"frames={frames} is not allowed; expected 4k + 1 from 5 on, such as 193")
    if size is not None and not 32 <= size <= 1024:
        raise ConfigError(f"size={size} is not allowed; expected 32 to 1024 px")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(f"output={str(output)!r} is not empty; give a new or an empty folder")
    states = sorted(source.rglob("states/*.json"))
    if not states:
        raise DataContractError(
            f"{source} has no states/<difficulty>_<id>.json below it; give a folder in VR-Bench's layout"
        )
    found = _Found(source, Form(size=size, frames=frames), split)
    with tempfile.TemporaryDirectory(prefix="wan-r1-") as scratch:
        whole = Path(scratch, "all.parquet")
        write_rows(found.rows(states), whole)
        kept = found.kept(ambiguous)
        rows_by_split = _write(whole, found, kept, output) if kept else {}
    output.mkdir(parents=True, exist_ok=True)
    faults = sorted(found.faults, key=lambda fault: (fault["file"], fault["rule"]))
    result = {"levels": len(states), "rows": len(kept), "rows_by_split": rows_by_split, "faults": faults}
    (output / FAULTS_FILE).write_text(json.dumps(result, indent=1) + "\n")
    if not kept:
        first = faults[0]
        raise DataContractError(
            f"none of the {len(states)} levels of {source} keeps the contract; {output / FAULTS_FILE} lists why, first "
            f"{first['file']} breaks the rule {first['rule']!r}: {first['found']}"
        )
    return result


class _Found:
    """The levels of a folder as they are read: a line of facts for each row, and a fault for what is none."""

    def __init__(self, source: Path, form: Form, split: str | None) -> None:
        self._source, self._form, self._split = source, form, split
        self.lines: list[dict[str, Any]] = []
        """For each row its small columns, facts and file, whether its video is lossless, its index when exported."""
        self.faults: list[dict[str, str]] = []

    def rows(self, states: list[Path]) -> Iterator[dict[str, Any]]:
        """Rows whose files can be read and which repeat no earlier level."""
        prompts = read_prompts(self._source)
        ids: dict[str, str] = {}
        layouts: dict[str, tuple[str, str]] = {}
        self._name_strays(states)
        with Progress("import", len(states), unit="level") as progress:
            for number, state in enumerate(states, 1):
                file = state.relative_to(self._source).as_posix()
                try:
                    values = read_row(state, self._source, self._form, self._split, prompts)
                    more = {"lossless": values.pop("lossless"), "exported": values["index"]}
                    values["index"] = len(self.lines)
                    facts = self._facts(values, more["lossless"], file, ids, layouts)
                except RowError as error:
                    self._tell(file, error.rule, str(error))
                else:
                    small = {name: values[name] for name in TASK_SCHEMA.names if name not in _MEDIA}
                    self.lines.append({"file": file, "row": None, **small, **facts, **more})
                    yield values
                progress.update(number, faults=len(self.faults))

    def kept(self, ambiguous: bool) -> set[int]:
        """Numbers of the rows that keep the contract; faults of the others, and of the whole set, are added."""
        if not self.lines:
            return set()
        table = pd.DataFrame(self.lines)
        table["layout_in_one_split"] = True
        for column in table.columns:
            if table[column].dtype == bool:
                table[column] = table[column].astype(object)
        config = ValidateTasksConfig(splits=tuple(sorted(set(table["split"]), key=str)), balance=0)
        by_file = {line["file"]: number for number, line in enumerate(self.lines)}
        broken: set[int] = set()
        for rule in check_rows(table, config).broken:
            for place in rule.broken:
                self._tell(place["file"], rule.name, place["notes"] or rule.text)
                if not (ambiguous and rule.name in _FOR_SCORING):
                    broken.add(by_file[place["file"]])
            if not rule.broken:
                self._tell("", rule.name, f"{rule.text}; found {rule.found}")
        return set(range(len(self.lines))) - broken

    def _facts(
        self,
        values: dict[str, Any],
        lossless: bool,
        file: str,
        ids: dict[str, str],
        layouts: dict[str, tuple[str, str]],
    ) -> dict[str, Any]:
        """The row's facts.

        Raises:
            RowError: if an earlier row has the same level, or the same layout in another split.
        """
        facts = row_facts(values, lossless=lossless)
        earlier = ids.setdefault(values["level_id"], file)
        if earlier != file:
            raise RowError("level_id_unique", f"the same level as {earlier}")
        layout = facts["layout_id"]
        if layout is not None:
            split, other = layouts.setdefault(layout, (values["split"], file))
            if split != values["split"]:
                raise RowError("layout_in_one_split", f"the same layout as {other}, which is in the split {split}")
        return facts

    def _name_strays(self, states: list[Path]) -> None:
        """Faults of pictures and videos that belong to no state."""
        known = {(state.parent.parent, state.stem) for state in states}
        for folder, pattern in (("images", "*.png"), ("videos", "*.mp4")):
            for path in sorted(self._source.rglob(f"{folder}/{pattern}")):
                level = path.parent.parent
                if (level, path.stem) not in known and (level, path.stem.rpartition("_")[0]) not in known:
                    self._tell(
                        path.relative_to(self._source).as_posix(), "state_readable", "the level has no state file"
                    )

    def _tell(self, file: str, rule: str, found: str) -> None:
        self.faults.append({"file": file, "rule": rule, "found": found})


def _write(whole: Path, found: _Found, kept: set[int], output: Path) -> dict[str, int]:
    """Write the rows kept, in files of one split, one family and one sort of video; returns rows by split."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for number in sorted(kept):
        line = found.lines[number]
        groups.setdefault((line["split"], line["family"], line["lossless"]), []).append(number)
    by_split: dict[str, int] = {}
    for (split, family, lossless), numbers in sorted(groups.items()):
        by_split[split] = by_split.get(split, 0) + len(numbers)
        metadata = {
            "wan_r1.source": "vr-bench",
            "wan_r1.git_commit": git_commit(),
            "wan_r1.lossless": str(lossless).lower(),
        }
        sort = "-lossless" if lossless and (split, family, False) in groups else ""
        parts = range(0, len(numbers), _SHARD_ROWS)
        places = _places(found, [one for key, of in groups.items() if key[:2] == (split, family) for one in of])
        rows = read_rows(whole, numbers)
        for number, first in enumerate(parts):
            name = f"{split}-{family}{sort}-{number:05d}-of-{len(parts):05d}.parquet"
            some = numbers[first : first + _SHARD_ROWS]
            write_rows(_numbered(rows, some, places), output / name, metadata=metadata)
    return by_split


def _places(found: _Found, numbers: list[int]) -> dict[int, int]:
    """The column ``index`` of the rows of a split and family: as they were exported, or else counted from 0."""
    exported = [found.lines[number]["exported"] for number in numbers]
    if None in exported or len(set(exported)) < len(exported):
        return {number: index for index, number in enumerate(sorted(numbers))}
    return dict(zip(numbers, exported, strict=True))


def _numbered(
    rows: Iterator[tuple[int, dict[str, Any]]], some: list[int], places: dict[int, int]
) -> Iterator[dict[str, Any]]:
    for number, values in itertools.islice(rows, len(some)):
        yield {**values, "index": places[number]}
