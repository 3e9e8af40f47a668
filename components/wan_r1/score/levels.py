"""Which level a video claims to solve: data sets in our layout or in VR-Bench's, looked up by file names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from wan_r1.score.vr_bench_layout import read_references, read_vr_bench_level, vr_bench_states
from wan_r1.tasks.dataset import Task, read_tasks

LAYOUTS = ("wan-r1", "vr-bench")


class ScoreError(ValueError):
    """Scoring cannot begin; the message names the argument, its value and the remedy."""


class LevelError(ValueError):
    """A video cannot be matched with a level; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one video is compared with.

    Attributes:
        key: identifies the level within the data set.
        task: the level, with the given image at the video's size.
        references: reference videos for the benchmark's metrics; empty takes the level's own shortest path.
    """

    key: str
    task: Task
    references: tuple[Path, ...] = ()


class Levels(Protocol):
    """A data set from which videos take their levels."""

    def find(self, name: Path, video: np.ndarray) -> Target:
        """The level of a video by its name, relative to the folder that is scored; `LevelError` if there is none."""

    def missing(self, found: set[str]) -> int:
        """How many levels have no video, given the keys of those that have one."""


def open_levels(dataset: Path, layout: str) -> Levels:
    """The data set in one of `LAYOUTS`.

    Raises:
        ScoreError: if the layout is unknown or the folder does not hold a data set of that layout.
        DataContractError: if a data set in our layout is damaged or of another version.
    """
    if layout not in LAYOUTS:
        raise ScoreError(f"layout={layout!r} is unknown; allowed: {', '.join(LAYOUTS)}")
    if not dataset.exists():
        raise ScoreError(f"dataset={dataset} does not exist")
    return OwnLevels(dataset) if layout == "wan-r1" else VrBenchLevels(dataset)


class OwnLevels:
    """A data set of `generate-tasks`; a video's name starts with its level's id: ``<level_id>[_anything].mp4``."""

    def __init__(self, dataset: Path) -> None:
        self._tasks = {task.level_id: task for task in read_tasks(dataset, videos=False)}

    def find(self, name: Path, video: np.ndarray) -> Target:
        """See `Levels.find`."""
        level_id = name.stem.split("_")[0].split(".")[0]
        if level_id not in self._tasks:
            raise LevelError(
                f"no level of the data set has the id {level_id!r}; name videos <level_id>.mp4 or <level_id>_<any>.mp4"
            )
        return Target(key=level_id, task=self._tasks[level_id])

    def missing(self, found: set[str]) -> int:
        """See `Levels.missing`."""
        return len(self._tasks.keys() - found)


class VrBenchLevels:
    """VR-Bench's folders ``.../<difficulty>/{images,videos,states}/<difficulty>_<id>.*``, one or several skins.

    A video's level is the first two parts of its name, as in the benchmark's own evaluation. Where several skins (or
    games) share that name, the folders in the video's own path must tell which one is meant.
    """

    def __init__(self, dataset: Path) -> None:
        self._root = dataset
        self._states = vr_bench_states(dataset)
        if not self._states:
            raise ScoreError(
                f"dataset={dataset} has no states/<difficulty>_<id>.json below it; give a folder in VR-Bench's layout"
            )
        self._kept: dict[Path, Task] = {}

    def find(self, name: Path, video: np.ndarray) -> Target:
        """See `Levels.find`."""
        stem = "_".join(name.stem.split("_")[:2])
        states = self._states.get(stem, [])
        if len(states) > 1:
            folders = set(name.parts[:-1])
            matches = [len(folders & set(state.relative_to(self._root).parts[:-2])) for state in states]
            states = [state for state, match in zip(states, matches, strict=True) if match == max(matches)]
        if len(states) != 1:
            found = f"{len(states)} levels are" if states else "no level is"
            raise LevelError(
                f"{found} named {stem!r} in the data set; name videos <difficulty>_<id>[_any].mp4, and keep the "
                "data set's folders (game, skin, difficulty) if it has several"
            )
        state = states[0]
        if state not in self._kept:
            try:
                self._kept[state] = read_vr_bench_level(state)
            except ValueError as error:
                raise LevelError(f"{state}: {error}") from None
        task = at_size(self._kept[state], video)
        return Target(key=str(state), task=task, references=read_references(state))

    def missing(self, found: set[str]) -> int:
        """See `Levels.missing`."""
        return len({str(state) for states in self._states.values() for state in states} - found)


def at_size(task: Task, video: np.ndarray) -> Task:
    """The task with its given image resized to a video's frames; other models work at other sizes than the image's."""
    if video.ndim != 4 or video.shape[1:3] == task.first_frame.shape[:2] or not all(video.shape[1:3]):
        return task
    height, width = video.shape[1:3]
    smaller = height < task.first_frame.shape[0]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    image = cv2.resize(task.first_frame, (width, height), interpolation=method)
    return replace(task, first_frame=np.asarray(image, np.uint8), height=height, width=width)
