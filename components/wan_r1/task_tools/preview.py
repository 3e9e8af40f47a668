"""What a data set looks like: a contact sheet, and a page with playable videos by family, difficulty and texture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wan_r1.config import ConfigError
from wan_r1.progress import Progress
from wan_r1.reports import Clip, Html, Pane, Section, bullet_list, figure, figure_grid, fold, note, page, table
from wan_r1.tasks.dataset import data_files, decode_task, open_data_file, read_rows
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.task import Task
from wan_r1.tasks.textures import TEXTURES

SHEET_FILE, PAGE_FILE = "contact-sheet.png", "preview.html"

_PANES = 4
"""Videos beside each other in one figure."""
_SIDE, _MOST_FRAMES = 256, 96
"""Pixels a side, and frames, that the page shows at most; longer videos are shown in this many steps."""
_MOST_BYTES = 24_000_000
"""Markup of videos in one page."""
_TILE, _GAP, _LABELS, _HEAD = 168, 8, 132, 34
"""Pixels of a tile of the sheet, between tiles, of the labels at the left, and of a family's heading."""
_PAPER, _INK, _QUIET, _EMPTY = (255, 255, 255), (30, 34, 46), (106, 112, 128), (236, 238, 242)

_KEYS = ["family", "difficulty", "texture", "split", "steps"]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A row that is shown, and what it is an example of."""

    family: str
    difficulty: str
    texture: str
    file: Path
    row: int

    @property
    def order(self) -> tuple:
        """Families by name, difficulties from easy to hard, textures as they are listed, those from elsewhere last."""
        return self.family, *_rank(DIFFICULTIES, self.difficulty), *_rank(tuple(TEXTURES), self.texture)


def run(*, dataset: Path, output: Path, levels: int = 1) -> dict[str, Any]:
    """Write ``contact-sheet.png`` and ``preview.html``.

    Args:
        dataset: folder of a data set, or one of its files.
        output: folder that receives both.
        levels: levels shown of each family, difficulty and texture.

    Returns:
        ``rows`` of the data set, ``shown`` of them, ``left_out`` of the page to keep it small, and the two files.

    Raises:
        ConfigError: if ``levels`` is not 1 to 16.
        DataContractError: naming the file or the row that cannot be read.
    """
    if not 1 <= levels <= 16:
        raise ConfigError(f"levels={levels} is not allowed; expected 1 to 16")
    counts, places = _choose(dataset, levels)
    tiles: list[tuple[_Place, NDArray[np.uint8]]] = []
    families: dict[str, list[Html]] = {}
    used = left_out = done = 0
    with Progress("preview", len(places), unit="level") as progress:
        for (family, difficulty), group in groupby(places, lambda place: (place.family, place.difficulty)):
            for part in _parts(list(group)):
                tasks = [_shown(place) for place in part]
                tiles += [(place, _tile(task.first_frame)) for place, task in zip(part, tasks, strict=True)]
                figures = families.setdefault(family, [])
                if used <= _MOST_BYTES:
                    figures.append(_figure(f"{family}, {difficulty}", tasks))
                    used += len(figures[-1])
                else:
                    left_out += len(part)
                done += len(part)
                progress.update(done)
    output.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet(tiles)).save(output / SHEET_FILE)
    (output / PAGE_FILE).write_text(_page(dataset, counts, families, left_out))
    return {
        "rows": sum(count for count, _ in counts.values()),
        "shown": len(places),
        "left_out": left_out,
        "contact_sheet": str(output / SHEET_FILE),
        "page": str(output / PAGE_FILE),
    }


def contact_sheet(tiles: Sequence[tuple[_Place, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """All tiles as one image ``[H, W, 3]``: a block a family, a line a difficulty, a column a texture."""
    columns = {name: k for k, name in enumerate(dict.fromkeys(p.texture for p, _ in sorted(tiles, key=_by_texture)))}
    lines: dict[tuple[str, str, int], dict[str, NDArray[np.uint8]]] = {}
    for place, tile in tiles:
        again = 0
        while place.texture in lines.setdefault((place.family, place.difficulty, again), {}):
            again += 1
        lines[place.family, place.difficulty, again][place.texture] = tile
    families = list(dict.fromkeys(family for family, _, _ in lines))
    width = _LABELS + len(columns) * (_TILE + _GAP) + _GAP
    height = _GAP + len(families) * (_HEAD + 20) + len(lines) * (_TILE + _GAP)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(20), ImageFont.load_default(14)
    top = _GAP
    for family in families:
        draw.text((_GAP, top + 4), family, fill=_INK, font=large)
        for name, k in columns.items():
            draw.text((_LABELS + k * (_TILE + _GAP), top + 32), name, fill=_QUIET, font=small)
        top += _HEAD + 20
        for (_, difficulty, again), found in ((key, of) for key, of in lines.items() if key[0] == family):
            if not again:
                draw.text((_GAP, top + _TILE / 2 - 8), difficulty, fill=_INK, font=small)
            for name, k in columns.items():
                left = _LABELS + k * (_TILE + _GAP)
                if name in found:
                    sheet.paste(Image.fromarray(found[name]), (left, top))
                else:
                    draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), fill=_EMPTY)
            top += _TILE + _GAP
    return np.asarray(sheet)


def _choose(dataset: Path, levels: int) -> tuple[dict[tuple[str, str, str, str], tuple[int, int]], list[_Place]]:
    """(rows, moves) by split, family, difficulty and texture; and the rows to show, those with a video first."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    moves: Counter[tuple[str, str, str, str]] = Counter()
    found: dict[tuple[str, str, str], list[tuple[bool, _Place]]] = {}
    for file in data_files(dataset):
        columns = open_data_file(file).read(columns=_KEYS).to_pydict()
        for row, values in enumerate(zip(*(columns[name] for name in _KEYS), strict=True)):
            family, difficulty, texture, split, steps = values
            counts[split, family, difficulty, texture] += 1
            moves[split, family, difficulty, texture] += steps
            place = _Place(family=family, difficulty=difficulty, texture=texture, file=file, row=row)
            some = found.setdefault((family, difficulty, texture), [])
            if len(some) < levels or (split != "prompts" and some[-1][0]):
                some.append((split == "prompts", place))
                some.sort(key=lambda one: one[0])
                del some[levels:]
    places = sorted((place for some in found.values() for _, place in some), key=lambda place: place.order)
    return {key: (counts[key], moves[key]) for key in sorted(counts)}, places


def _parts(group: list[_Place]) -> Iterator[list[_Place]]:
    for first in range(0, len(group), _PANES):
        yield group[first : first + _PANES]


def _shown(place: _Place) -> Task:
    """The row's task, its video no larger than the page shows it."""
    ((_, values),) = read_rows(place.file, [place.row])
    task = decode_task(values, f"{place.file}, row {place.row}")
    if task.video is None:
        return task
    chosen = np.unique(np.linspace(0, len(task.video) - 1, min(len(task.video), _MOST_FRAMES)).round().astype(int))
    video = task.video[chosen]
    if video.shape[1] > _SIDE:
        video = np.stack([cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in video])
    return replace(task, video=video)


def _figure(title: str, tasks: Sequence[Task]) -> Html:
    panes = [
        Pane(
            label=task.texture,
            frames=task.first_frame[None] if task.video is None else task.video,
            lines=[f"{task.level.solve().steps} moves", *(["no demonstration"] if task.video is None else [])],
        )
        for task in tasks
    ]
    prompts = fold("Prompts", bullet_list(dict.fromkeys(task.prompt for task in tasks)))
    return figure(Clip(title=title, panes=panes, below=prompts))


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The first frame at the size of a tile: averaged if it is larger, its pixels repeated if it is smaller."""
    method = cv2.INTER_AREA if image.shape[0] > _TILE else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, (_TILE, _TILE), interpolation=method), np.uint8)


def _page(
    dataset: Path,
    counts: dict[tuple[str, str, str, str], tuple[int, int]],
    families: dict[str, list[Html]],
    left_out: int,
) -> str:
    lines = [
        {
            "split": split,
            "family": family,
            "difficulty": difficulty,
            "texture": texture,
            "levels": count,
            "moves": moves / count,
        }
        for (split, family, difficulty, texture), (count, moves) in counts.items()
    ]
    names = {"moves": "mean moves"}
    columns = {name: names.get(name, name) for name in lines[0]} if lines else {}
    sections = [
        Section(family, [figure_grid(figures, button=number == 0)])
        for number, (family, figures) in enumerate(families.items())
    ]
    contents = table(
        lines, caption="Levels by split, family, difficulty and texture", columns=columns, group_by="split"
    )
    rest = [note(f"{left_out} more levels were left out of the page to keep it small.")] if left_out else []
    total = sum(count for count, _ in counts.values())
    lead = f"{total} levels in {dataset.name}: an example of each family, difficulty and texture with its solution."
    return page("Levels and their solutions", [*sections, Section("What is in it", [*rest, contents])], lead=lead)


def _rank(known: tuple[str, ...], name: str) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known)), name


def _by_texture(tile: tuple[_Place, NDArray[np.uint8]]) -> tuple[int, str]:
    return _rank(tuple(TEXTURES), tile[0].texture)
