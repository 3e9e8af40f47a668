"""Parameters of the data set."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from wan_r1.config import ConfigError, StageConfig
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES, BaseFamily, Family, Shape
from wan_r1.tasks.render import MIN_CELL
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import room_for_steps
from wan_r1.tasks.textures import HELD_OUT, TEXTURES


@dataclass(frozen=True, kw_only=True)
class GenerateTasksConfig(StageConfig):
    """What levels are made, how many for each split, and how they look.

    Within a split, levels go through the difficulties in turn, and through the textures after each round of them.
    """

    STAGE: ClassVar[str] = "generate_tasks"
    PREFIX: ClassVar[str] = "tasks_"

    families: tuple[str, ...] = ("regular", "trapfield")
    """Families of levels; see `wan_r1.tasks.families`."""
    textures: tuple[str, ...] = ("plain", "night")
    """Textures of every split that something is learned from, and of the others unless they have their own."""
    test_textures: tuple[str, ...] = ()
    """Textures of the splits `test` and `harder`, such as the ones held out from training (carpet, marble); empty takes
    those of training."""

    train_levels: int = 1024
    """Levels per family with a demonstration, for supervised fine-tuning (VR-Bench has 360 a texture)."""
    validation_levels: int = 64
    """Levels per family by which checkpoints are picked."""
    prompts_levels: int = 512
    """Levels per family without a demonstration, for reinforcement learning."""
    test_levels: int = 128
    """Levels per family like those of training, for the reported results (the paper's test has 72)."""
    harder_levels: int = 128
    """Levels per family beyond those of training, for the reported results."""

    train_difficulties: tuple[str, ...] = ("easy", "medium")
    """Difficulties in the split `train`, in equal parts."""
    validation_difficulties: tuple[str, ...] = ("easy", "medium")
    """Difficulties in the split `validation`."""
    prompts_difficulties: tuple[str, ...] = ("hard",)
    """Difficulties in the split `prompts`."""
    test_difficulties: tuple[str, ...] = ("easy", "medium")
    """Difficulties in the split `test`."""
    harder_difficulties: tuple[str, ...] = ("hard",)
    """Difficulties in the split `harder`."""

    height: int = 512
    """Height of a frame in pixels (VR-Bench trains Wan2.2 at 512)."""
    width: int = 512
    """Width of a frame in pixels; grid families draw square frames."""
    frames: int = 193
    """Frames of a video, 4k + 1 as Wan's codec needs (the paper's 193)."""
    canvas: int = 16
    """Cells per side of the frame; boards are as large as the difficulty says and lie anywhere on it."""
    steps_per_frame: float = 0.25
    """Speed of the player in cells a frame; it rests on the goal afterwards."""
    fps: float = 24.0
    """Frames per second, for players of the video; Wan2.2's 24."""
    lossless: bool = False
    """Whether videos keep every pixel (RGB H.264, which few browsers play) or are common H.264 of high quality."""

    loops: float = 0.0
    """Share of a regular maze's inner walls opened into loops; its shortest path stays the only one."""
    shortest: float = 0.0
    """Where the least length of a solution lies in its difficulty's range, 0 to 1."""
    longest: float = 1.0
    """Where the largest length of a solution lies in its difficulty's range, 0 to 1."""
    boxes: int = 0
    """Boxes of a Sokoban level, up to 3; 0 leaves them to the difficulty (1 or 2)."""
    pushes: int = 0
    """Fewest pushes that a Sokoban level may need; 0 leaves them to the difficulty (1 to 5)."""

    shard_rows: int = 256
    """Rows per Parquet file at most; changes the files' number, no level."""
    shards: int = 1
    """Parts that the files are dealt out to, for tasks side by side; together they are the same data set."""
    shard: int = 0
    """Which of these parts to make, from 0."""
    workers: int = 0
    """Processes that make levels; 0 is one for each core. Changes no byte of the data set."""

    def validate(self) -> None:
        """Check every value that can be checked without making a level."""
        self._check_names("families", FAMILIES)
        tested = f"; {' and '.join(sorted(HELD_OUT))} are held out for tests"
        self._check_names("textures", set(TEXTURES) - set(HELD_OUT), tested)
        if self.test_textures:
            self._check_names("test_textures", TEXTURES)
        for split in SPLITS:
            self._check_names(f"{split}_difficulties", DIFFICULTIES)
            self.require(f"{split}_levels", self.levels(split) >= 0, "a whole number from 0")
        if not any(self.levels(split) for split in SPLITS):
            raise ConfigError("no split has any level; give at least one, such as tasks_train_levels=16")

        good = max(5, 4 * round((self.frames - 1) / 4) + 1)
        self.require("frames", self.frames >= 5 and self.frames % 4 == 1, f"4k + 1 from 5 on, such as {good}")
        least, family = max((FAMILIES[name].smallest_canvas, name) for name in self.families)
        self.require(
            "canvas",
            least <= self.canvas <= 64,
            f"a whole number from {least} to 64, such as {max(least, 8)} (the family {family} needs at least {least}, "
            f"and so at least {MIN_CELL * least} px)",
        )
        suits = self.height % self.canvas == 0 and self.height // self.canvas >= MIN_CELL and self.height <= 1024
        cell = min(max(MIN_CELL, round(self.height / self.canvas)), 1024 // self.canvas)
        self.require(
            "height",
            suits,
            f"a multiple of tasks_canvas={self.canvas} with {MIN_CELL} px a cell or more and up to 1024 px, such as "
            f"{cell * self.canvas}",
        )
        self.require("width", self.width == self.height, f"the height, {self.height}: grid families are square")
        self.require(
            "lossless", self.lossless or self.height % 2 == 0, "true for an odd height, which common H.264 cannot hold"
        )
        self.require(
            "steps_per_frame", 0 < self.steps_per_frame <= 1, "above 0 and up to 1 (a cell a frame), such as 0.5"
        )
        self.require("fps", 1 <= self.fps <= 120, "1 to 120, such as 24")
        self.require("loops", 0 <= self.loops <= 1, "0 to 1")
        self.require("longest", 0 <= self.longest <= 1, "0 to 1")
        self.require("shortest", 0 <= self.shortest <= self.longest, f"0 to tasks_longest={self.longest}")
        self.require("boxes", self.boxes >= 0, "a whole number from 1, or 0 for as many as the difficulty has")
        self.require("pushes", self.pushes >= 0, "a whole number from 1, or 0 for as many as the difficulty needs")
        self.require("shard_rows", self.shard_rows >= 1, "a whole number from 1")
        self.require("shards", self.shards >= 1, "a whole number from 1")
        files = sum(-(-self.levels(split) // self.shard_rows) for split in SPLITS) * len(self.families)
        if self.shards > files:
            raise ConfigError(
                f"tasks_shards={self.shards} is more than the {files} files of the data set; use at most {files}, or "
                f"fewer tasks_shard_rows than {self.shard_rows}"
            )
        self.require("shard", 0 <= self.shard < self.shards, f"0 to tasks_shards - 1 = {self.shards - 1}")
        self.require("workers", self.workers >= 0, "a whole number from 0")
        self._check_shape()
        self._check_room()

    def levels(self, split: str) -> int:
        """Levels per family of a split."""
        return getattr(self, f"{split}_levels")

    def difficulties(self, split: str) -> tuple[str, ...]:
        """Difficulties of a split."""
        return getattr(self, f"{split}_difficulties")

    def place(self, split: str, index: int) -> tuple[str, str]:
        """(difficulty, texture) of the level at ``index`` of a split, which is the same for every family."""
        difficulties = self.difficulties(split)
        round_, within = divmod(index, len(difficulties))
        textures = (self.test_textures if split in ("test", "harder") else ()) or self.textures
        return difficulties[within], textures[round_ % len(textures)]

    @property
    def shape(self) -> Shape:
        """Continuous parameters of the levels."""
        return Shape(**{field.name: getattr(self, field.name) for field in fields(Shape)})

    @property
    def max_steps(self) -> int:
        """Most moves that a video has room for."""
        return room_for_steps(self.frames, self.steps_per_frame)

    @property
    def content_hash(self) -> str:
        """Like `hash`, but of what decides the data set's content: who makes which part of it does not."""
        values = {name: value for name, value in asdict(self).items() if name not in ("workers", "shards", "shard")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    def _maker(self, family: str) -> Family:
        maker = FAMILIES[family]
        return maker.shaped(self.shape) if isinstance(maker, BaseFamily) else maker

    def _check_names(self, field: str, known: object, more: str = "") -> None:
        names, allowed = getattr(self, field), sorted(known)  # type: ignore[call-overload]
        shown = f"one or more of {', '.join(allowed)}, each once{more}"
        self.require(field, len(names) > 0 and len(set(names)) == len(names) and set(names) <= set(allowed), shown)

    def _check_shape(self) -> None:
        """What shapes levels must be known to a family, and leave enough levels of each family and difficulty."""
        obeyed: dict[str, frozenset[str]] = {name: getattr(FAMILIES[name], "obeys", frozenset()) for name in FAMILIES}
        for field in sorted(self.shape.given):
            able = [name for name in sorted(FAMILIES) if field in obeyed[name]]
            self.require(
                field,
                not set(able).isdisjoint(self.families),
                f"{getattr(Shape(), field)} unless tasks_families has one of {', '.join(able)}",
            )
        for split in SPLITS:
            for difficulty in self.difficulties(split) if self.levels(split) else ():
                for family in self.families:
                    maker = self._maker(family)
                    if isinstance(maker, BaseFamily) and (no := maker.refusal(difficulty, self.canvas, self.max_steps)):
                        self.require(no[0], False, no[1])

    def _check_room(self) -> None:
        """A video must have room for the shortest levels of every family and difficulty."""
        needed, family, difficulty, split = max(
            (self._maker(family).shortest_allowed(difficulty, self.canvas), family, difficulty, split)
            for split in SPLITS
            for difficulty in (self.difficulties(split) if self.levels(split) else ())
            for family in self.families
        )
        frames = 4 * math.ceil(needed / self.steps_per_frame / 4) + 1
        self.require(
            "frames",
            needed <= self.max_steps,
            f"at least {frames} at tasks_steps_per_frame={self.steps_per_frame}: {difficulty} {family} levels on "
            f"tasks_canvas={self.canvas} (tasks_{split}_difficulties) take {needed} moves or more",
        )
