"""The table of cheats: every way to cheat in tests/unit, by our strict rules and by VR-Bench's definitions.

PYTHONPATH=components python tests/benchmarks/cheats.py > tests/benchmarks/cheats.md
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

import box_cheats
import cheats
import road_cheats
import tolerated

sys.path.append(str(Path(__file__).resolve().parent))

from calibration import h264

from wan_r1.tasks.dataset import Task
from wan_r1.verification import StrictRules, verify


def main() -> None:
    """Print the tables as Markdown."""
    print("# Cheats under strict rules and under VR-Bench's definitions\n")
    print("Means over the levels that a cheat fits. `reward` is the default reward, `half` what an honest video that")
    print(
        "stops half-way earns on the same levels. Made by `python tests/benchmarks/cheats.py`. VR-Bench's metrics are"
    )
    print("computed on our track. A cheat breaks a rule, does not end at rest on the goal, or takes too long a way.")
    _print_table(
        "regular and trapfield, plain and night, 64 px, 49 frames, 0.2 cells a frame",
        cheats.CHEATS,
        lambda name: cheats.level_tasks("slow"),
        cheats.half_way_and_stops,
    )
    _print_table(
        "sokoban in three textures, 64 px, 37 frames, 0.25 cells a frame",
        box_cheats.BOX_CHEATS,
        lambda name: box_cheats.tasks_of("slow"),
        box_cheats.half_way_and_stops,
    )
    for family in road_cheats.ROADS:
        _print_table(
            f"{family} in eight textures, 64 px, 49 frames, 0.5 cells a frame",
            road_cheats.ROAD_CHEATS,
            lambda name, family=family: (
                road_cheats.hiding_tasks(family)
                if name == "drawn_over_what_hides_it"
                else road_cheats.some_tasks(family, "64 px", 2)[::3]
            ),
            road_cheats.half_way_and_stops,
        )
    print("\n## Accepted within the tolerances\n")
    print("Changes of an honest solution that rules leave room for (`tests/unit/tolerated.py`): none saves a move.\n")
    print("| change | videos | EM, 32 px, 9 frames | videos | EM, 64 px, 49 frames |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, make in tolerated.TOLERATED.items():
        row = [name.replace("_", " ")]
        for form in ("tiny", "slow"):
            levels = cheats.level_tasks(form)
            accepted = [verdict.em for verdict in verify([make(task) for task in levels], levels)]
            row += [str(len(accepted)), f"{np.mean(accepted):.2f}"]
        print(f"| {' | '.join(row)} |", flush=True)
    print("\n## After H.264 at quality 28, cells of 8 px\n")
    print("Such videos are read twice (`wan_r1.verification.compression`). Only cheats that break a rule; `first` and")
    print(
        "`both` count those that are said to keep every rule by the first reading alone and by both, EM in brackets.\n"
    )
    print("| levels | cheats | videos | first | both | which |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    _print_compressed("regular and trapfield, 32 px, 9 frames", cheats.CHEATS, cheats.level_tasks("tiny")[::5])
    _print_compressed("sokoban, 32 px, 9 frames", box_cheats.BOX_CHEATS, box_cheats.tasks_of("tiny"))
    for family in road_cheats.ROADS:
        # A second reading of these takes a second.
        levels = road_cheats.some_tasks(family, "64 px")[::10]
        _print_compressed(f"{family}, 64 px, 49 frames", road_cheats.ROAD_CHEATS, levels)


def _print_compressed(title: str, table: dict[str, cheats.Cheat], levels: Sequence[Task]) -> None:
    """One row: compressed cheats that are said to break no rule."""
    made = [
        (name, task, video)
        for name, cheat in table.items()
        for task in levels
        if cheat.breaks == cheats.RULE and (video := cheat.make(task)) is not None
    ]
    tasks, videos = [task for _, task, _ in made], [h264(video) for _, _, video in made]
    counts, which = [], Counter()
    for rules in (StrictRules(compression=0), StrictRules()):
        kept = [(k, verdict.em) for k, verdict in enumerate(verify(videos, tasks, rules=rules)) if verdict.kept_rules]
        counts.append(f"{len(kept)} ({sum(em for _, em in kept)})")
        which = Counter(f"{made[k][0].replace('_', ' ')} ({made[k][1].texture})" for k, _ in kept)
    names = ", ".join(f"{name} {count}" for name, count in sorted(which.items()))
    different = len({name for name, _, _ in made})
    print(f"| {title} | {different} | {len(made)} | {' | '.join(counts)} | {names} |", flush=True)


def _print_table(
    title: str,
    table: dict[str, cheats.Cheat],
    levels: Callable[[str], Sequence[Task]],
    half: Callable[[Task], np.ndarray],
) -> None:
    print(f"\n## {title[0].upper()}{title[1:]}\n")
    print("| cheat | breaks | videos | EM | SR | PR | MF | reward | half | VR-Bench EM | SR | PR | MF |")
    print("| --- | --- | ---: |" + " ---: |" * 10)
    rows, fooled, ours = 0, 0, 0
    for name, cheat in table.items():
        made = [(task, cheat.make(task)) for task in levels(name)]
        made = [(task, video) for task, video in made if video is not None]
        if not made:
            continue
        tasks, videos = [task for task, _ in made], np.stack([video for _, video in made])
        row = cheats.mean_scores(tasks, videos, verify(videos, tasks, vr_bench=True), half)
        strict = " | ".join(f"{row[key]:.2f}" for key in ("em", "sr", "pr", "mf", "reward", "half"))
        theirs = " | ".join(f"{row[f'vr_bench_{key}']:.2f}" for key in ("em", "sr", "pr", "mf"))
        print(f"| {name.replace('_', ' ')} | {cheat.breaks} | {row['videos']:.0f} | {strict} | {theirs} |", flush=True)
        rows, fooled, ours = rows + 1, fooled + (row["vr_bench_em"] > 0), ours + (row["em"] > 0)
    print(f"\n{rows} cheats; VR-Bench's exact match accepts {fooled} of them at least once, ours {ours}.")


if __name__ == "__main__":
    main()
