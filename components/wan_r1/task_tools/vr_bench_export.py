"""A table as folders that VR-Bench's own tools read: ``<part>/<game>/<skin>/<difficulty>/{images,videos,states}``.

Pictures and videos are copied as they are, and the boxes of player, goal and boxes in the state files are where these
show them, which is all that the benchmark's evaluation reads. Walls between cells become cells of their own in the
state's grid, as the benchmark has them. Below ``metadata.wan_r1`` a state keeps the whole row, for the way back.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wan_r1.config import ConfigError
from wan_r1.progress import Progress
from wan_r1.score.vr_bench_layout import OWN_KEY
from wan_r1.task_tools.vr_bench_states import game_state
from wan_r1.tasks.dataset import data_files, decode_level, open_data_file, read_rows
from wan_r1.tasks.schema import SPLITS, DataContractError
from wan_r1.tasks.textures import FOREIGN

PARTS = {"train": "train", "prompts": "train", "validation": "eval", "test": "eval", "harder": "eval"}
"""The benchmark's part of the data by our split."""


def run(*, dataset: Path, output: Path, split: str | None = None) -> dict[str, Any]:
    """Write the folders.

    Args:
        dataset: folder of a data set, or one of its files.
        output: folder to write, new or empty.
        split: only this split.

    Returns:
        ``levels``, ``videos`` and ``folders`` written.

    Raises:
        ConfigError: if the split is unknown, or the output holds anything.
        DataContractError: naming the file and the row that cannot be written, or if the split has no level.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(f"output={str(output)!r} is not empty; give a new or an empty folder")
    files = data_files(dataset)
    total = sum(open_data_file(file).metadata.num_rows for file in files)
    folders: dict[Path, list[dict[str, Any]]] = {}
    lines: dict[Path, list[tuple[str, str, str]]] = {}
    done = 0
    with Progress("export", total, unit="level") as progress:
        for file in files:
            for row, values in read_rows(file):
                done += 1
                progress.update(done)
                if split not in (None, values["split"]):
                    continue
                try:
                    _write_level(values, output, folders, lines)
                except (ValueError, KeyError, TypeError) as error:
                    raise DataContractError(f"{file}, row {row}, level {values['level_id']}: {error}") from error
    if not folders:
        raise DataContractError(f"{dataset} has no level{f' of the split {split}' if split else ''}; nothing to export")
    for folder, levels in folders.items():
        _write_results(output / folder, levels)
    for path, prompts in lines.items():
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("video", "prompt", "input_image"), *prompts])
    return {
        "levels": sum(len(levels) for levels in folders.values()),
        "videos": sum(len(prompts) for prompts in lines.values()),
        "folders": len(folders),
    }


def _write_level(
    values: Mapping[str, Any],
    output: Path,
    folders: dict[Path, list[dict[str, Any]]],
    lines: dict[Path, list[tuple[str, str, str]]],
) -> None:
    """Write a row's three files, and remember them for the lists of their folder.

    Raises:
        ValueError: if the row's state, texture or split cannot be written.
    """
    level = decode_level(values["family"], values["state"])
    skin, difficulty = values["texture"].removeprefix(FOREIGN), values["difficulty"]
    for name, text in (("texture", skin), ("difficulty", difficulty)):
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", text):
            raise ValueError(f"{name}={text!r} can be no name of a folder; allowed: letters, digits, '_', '-' and '.'")
    state = game_state(level, values["height"], values["width"])
    game = state["game_type"]
    folder = Path(PARTS[values["split"]], game, skin, difficulty)
    levels = folders.setdefault(folder, [])
    stem = f"{difficulty}_{len(levels) + 1:04d}"
    row = {name: value for name, value in values.items() if name not in ("first_frame", "video", "state")}
    state["metadata"][OWN_KEY] = {**row, "state": json.loads(values["state"])}
    files = {"image": folder / "images" / f"{stem}.png", "state": folder / "states" / f"{stem}.json"}
    contents = {"image": values["first_frame"]["bytes"], "state": json.dumps(state).encode()}
    if values["video"] is not None:
        files["video"], contents["video"] = folder / "videos" / f"{stem}.mp4", values["video"]["bytes"]
        table = output / "metadata" / PARTS[values["split"]] / f"{game}_{skin}_{difficulty}" / "metadata.csv"
        entry = files["video"].as_posix(), values["prompt"], files["image"].as_posix()
        lines.setdefault(table, []).append(entry)
    for kind, path in files.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(contents[kind])
    levels.append(
        {
            "level_id": len(levels) + 1,
            "files": {kind: path.relative_to(folder).as_posix() for kind, path in files.items()},
            "status": "success",
            "duplicate_retries": 0,
            "level_hash": values["level_id"],
        }
    )


def _write_results(folder: Path, levels: list[dict[str, Any]]) -> None:
    content = {
        "skin": folder.parent.name,
        "difficulty": folder.name,
        "total": len(levels),
        "generated": len(levels),
        "failed": 0,
        "total_duplicates": 0,
        "levels": levels,
    }
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n")
