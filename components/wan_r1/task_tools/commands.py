"""The words of ``wan-r1 tasks ...`` and what they call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.textures import TEXTURES

_LAYOUTS = ("vr-bench", "target-bench")
_SHOWN_FAULTS = 20

_GENERATE = (
    "Make levels with their videos from a few words. Canvas, speed and the rest are chosen to fit and can be given; "
    "for all parameters there is generate-tasks."
)
_PREVIEW = "Write contact-sheet.png and preview.html, with playable videos by family, difficulty and texture."
_EXPORT = (
    "Write a data set as <train|eval>/<game>/<skin>/<difficulty>/{images,videos,states}, which VR-Bench's evaluation "
    "reads. Pictures and videos stay as they are. With --layout target-bench, write levels of the family navigation as "
    "<segment>/<segment>_{video.mp4, first_frame.png, current_frame.png, trajectory.csv, caption.txt, metadata.json}."
)
_IMPORT = (
    "Read folders in VR-Bench's layout (its mazes, trapfields, Sokoban in any skin, and all that export has written) "
    "into a data set, or with --layout target-bench that benchmark's segments. Each level is held against the contract "
    "of our own; import.json lists by file what breaks it."
)


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of ``wan-r1 tasks`` and their options."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    _add_generate(verbs.add_parser("generate", help="make a small data set from a few words", description=_GENERATE))
    preview = verbs.add_parser("preview", help="look at a data set", description=_PREVIEW)
    preview.add_argument("source", metavar="DATASET", help="folder of a data set or one of its files; path or S3 URI")
    preview.add_argument("--levels", type=int, default=1, metavar="int", help="of each sort (default %(default)s)")
    export = verbs.add_parser("export", help="write a data set in another benchmark's layout", description=_EXPORT)
    export.add_argument("source", metavar="TABLE", help="folder of a data set or one of its files; path or S3 URI")
    read = verbs.add_parser("import", help="read another benchmark's layout into a data set", description=_IMPORT)
    read.add_argument("source", metavar="DIR", help="folder in that layout; path or S3 URI")
    for one, what in ((export, "only this split"), (read, "split of all rows; by default by their folders' names")):
        one.add_argument("--layout", required=True, choices=_LAYOUTS, help="whose folders")
        one.add_argument("--split", choices=SPLITS, help=what)
    read.add_argument("--size", type=int, metavar="int", help="pixels to bring pictures to; by default as they are")
    read.add_argument("--frames", type=int, metavar="int", help="frames to bring videos to; by default as they are")
    read.add_argument(
        "--ambiguous",
        action="store_true",
        help="keep levels with several shortest solutions or a longer reference",
    )
    for one in verbs.choices.values():
        one.add_argument("--output", required=True, metavar="PATH_OR_URI", help="folder that receives the result")


def run(given: argparse.Namespace, source: Path, output: Path) -> dict[str, Any]:
    """Do what the words say.

    Args:
        given: the command line, parsed.
        source: what is read, here; of no meaning for ``generate``.
        output: folder to write.

    Returns:
        A summary.
    """
    if given.verb == "generate":
        from wan_r1.task_tools import generate

        return generate.run(output, **{name: getattr(given, name) for name in _GENERATE_NAMES})
    if given.verb == "preview":
        from wan_r1.task_tools import preview

        return preview.run(dataset=source, output=output, levels=given.levels)
    if given.verb == "export":
        from wan_r1.task_tools import target_bench_export, vr_bench_export

        if given.layout == "target-bench":
            return target_bench_export.run(dataset=source, output=output, split=given.split)
        return vr_bench_export.run(dataset=source, output=output, split=given.split)
    from wan_r1.task_tools import target_bench_import, vr_bench_import

    words = {name: getattr(given, name) for name in ("split", "size", "frames")}
    if given.layout == "target-bench":
        result = target_bench_import.run(source=source, output=output, **words)
    else:
        result = vr_bench_import.run(source=source, output=output, ambiguous=given.ambiguous, **words)
    _print_faults(result["faults"])
    return {**result, "faults": len(result["faults"])}


_GENERATE_NAMES = (
    *("families", "difficulties", "count", "seed", "size", "frames", "split", "textures"),
    *("canvas", "speed", "fps", "lossless", "workers"),
    *("loops", "shortest", "longest", "boxes", "pushes"),
)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    def listed(text: str) -> list[str]:
        return [word for word in (part.strip() for part in text.split(",")) if word]

    def names(option: str, known: Sequence[str], dest: str, **more: Any) -> None:
        parser.add_argument(option, dest=dest, type=listed, help=f"some of {', '.join(known)}", **more)

    names("--family", sorted(FAMILIES), "families", required=True, metavar="str,...")
    names("--difficulty", DIFFICULTIES, "difficulties", required=True, metavar="str,...")
    for name, text in (
        ("count", "levels per family"),
        ("size", "height and width in pixels"),
        ("frames", "frames of a video, 4k + 1"),
    ):
        parser.add_argument(f"--{name}", type=int, required=True, metavar="int", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="int", help="default %(default)s")
    parser.add_argument("--split", choices=SPLITS, default="train", help="default %(default)s")
    names("--textures", list(TEXTURES), "textures", default=[], metavar="str,...")
    parser.add_argument("--canvas", type=int, metavar="int", help="cells per side of the frame (chosen to fit)")
    parser.add_argument("--speed", type=float, metavar="float", help="cells a frame (chosen to fit)")
    parser.add_argument("--fps", type=float, metavar="float", help="frames per second (24; 8 for short videos)")
    parser.add_argument(
        "--lossless",
        action=argparse.BooleanOptionalAction,
        help="videos that keep every pixel (by default with cells of less than 32 px)",
    )
    parser.add_argument("--workers", type=int, default=0, metavar="int", help="processes; 0 is one for each core")
    for name, value, text in (
        ("loops", 0.0, "share of a regular maze's inner walls that are opened"),
        ("shortest", 0.0, "where the least length lies in the difficulty's range"),
        ("longest", 1.0, "where the largest length lies in the difficulty's range"),
    ):
        parser.add_argument(f"--{name}", type=float, default=value, metavar="float", help=f"{text}, 0 to 1")
    for name, text in (("boxes", "boxes of a Sokoban level"), ("pushes", "fewest pushes that a Sokoban level needs")):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="int", help=f"{text}; 0 as the difficulty has")


def _print_faults(faults: Sequence[dict[str, str]]) -> None:
    for fault in faults[:_SHOWN_FAULTS]:
        print(f"{fault['file'] or 'the whole set'}: {fault['rule']}: {fault['found']}")
    if len(faults) > _SHOWN_FAULTS:
        print(f"and {len(faults) - _SHOWN_FAULTS} more")
