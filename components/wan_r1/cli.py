"""``wan-r1``: the stages from a shell, with the same functions, parameters and messages as in a pipeline."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from wan_r1 import __version__
from wan_r1.config import StageConfig, presets
from wan_r1.storage import locations
from wan_r1.training.placement import PlacedConfig, is_first, place
from wan_r1.words import field_docs, field_form, field_value

STAGES = {
    "generate-tasks": "make puzzles with their solution videos",
    "validate-tasks": "check a data set against its contract",
    "prepare-model": "put the diffusers pipeline that training starts from into storage",
    "train-sft": "fine-tune a model on solution videos",
    "train-grpo": "improve a model by reinforcement learning with verified rewards",
    "evaluate": "sample a model on levels it has never seen and verify every video",
    "compare-rewards": "compare trainings that differ in their reward",
    "doctor": "tell a fault from bad tuning: check what reinforcement learning rests on, one line each",
}
"""Stages by the name of their command, and what is run like one."""

OUTPUTS = ("output", "metrics", "report", "plot")
"""Arguments of stages that are written; like inputs they may be paths or S3 URIs."""
ALSO_OUTPUTS = {"validate-tasks": "certificate", "prepare-model": "model"}
"""Arguments that one stage writes and others read."""

_SCORE = (
    "Score videos that any tool has made against a data set in our layout or VR-Bench's: writes scores.parquet, "
    "summary.json and scores.html. A video that cannot be read is an error in its row and stops nothing."
)

_TASKS = "Data sets of puzzles: make a small one from a few words, look at one, exchange them with VR-Bench."

_LORA = "LoRA files: between the names of diffusers and those of DiffSynth-Studio, in which VR-Bench publishes its own."

_VERBS = {"local": "run", "submit": "submit", "compile": "compile"}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        words: the command line; by default the process's own.

    Returns:
        0 if all went well; 2 if a parameter, a file or the storage is wrong, after one message that says what to do.
    """
    words = list(sys.argv[1:] if words is None else words)
    command = words[0] if words else ""
    parser = _parser(command)
    given = parser.parse_args(words)
    if command == "run":
        return _run_pipeline(given)
    try:
        others = {"score": _run_score, "tasks": _run_tasks, "lora": _run_lora}
        return others[command](given) if command in others else _run_stage(command, given)
    except (ValueError, RuntimeError) as error:
        # Errors of our own are messages for the user; others are faults, and their traceback is needed.
        if not type(error).__module__.startswith("wan_r1."):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        text = "the disk is full; free space and start again; what is complete is kept"
        print(f"error: {text} ({error})", file=sys.stderr)
        return 2


def _parser(command: str) -> argparse.ArgumentParser:
    """The parser; only the command's own stage is imported, since some take seconds."""
    description = "Verifiable reinforcement learning for video reasoning, stage by stage."
    parser = argparse.ArgumentParser(prog="wan-r1", description=description)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in STAGES.items():
        stage = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        if name == command:
            _add_stage(stage, *_stage(name))
    score = commands.add_parser("score", help="score videos that any tool has made", description=_SCORE)
    if command == "score":
        _add_score(score)
    tasks = commands.add_parser("tasks", help="make, look at and exchange data sets", description=_TASKS)
    if command == "tasks":
        from wan_r1.task_tools.commands import add_commands

        add_commands(tasks)
    lora = commands.add_parser("lora", help="convert LoRA files", description=_LORA)
    if command == "lora":
        _add_lora(lora)
    run = commands.add_parser("run", help="run a pipeline script here or on Kubeflow Pipelines")
    run.add_argument("verb", choices=_VERBS, help="local: on this machine; submit: to Kubeflow; compile: to YAML")
    run.add_argument("script", type=Path, help="a pipeline script, such as pipelines/full.py")
    run.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="options and name=value parameters of it")
    return parser


def _add_score(parser: argparse.ArgumentParser) -> None:
    from wan_r1.score import LAYOUTS
    from wan_r1.verification import BenchmarkRules

    parser.add_argument("videos", metavar="VIDEOS", help="folder of videos, or one video; a path or an S3 URI")
    parser.add_argument("--dataset", required=True, metavar="PATH_OR_URI", help="the levels that the videos solve")
    parser.add_argument("--layout", default=LAYOUTS[0], help=f"the data set's layout: {', '.join(LAYOUTS)}")
    parser.add_argument("--output", required=True, metavar="PATH_OR_URI", help="folder that receives the results")
    rules = parser.add_argument_group("tolerances of VR-Bench's metrics")
    for field in fields(BenchmarkRules):
        kind = type(field.default)
        rules.add_argument(
            _option(field.name), type=kind, default=field.default, metavar=kind.__name__, help="default %(default)s"
        )


def _run_score(given: argparse.Namespace) -> int:
    from wan_r1.score import ScoreError, run
    from wan_r1.verification import BenchmarkRules

    try:
        benchmark = BenchmarkRules(**{field.name: getattr(given, field.name) for field in fields(BenchmarkRules)})
    except ValueError as error:
        raise ScoreError(str(error)) from None
    with tempfile.TemporaryDirectory(prefix="wan-r1-") as scratch:
        videos, dataset = (_fetched(getattr(given, name), Path(scratch, name)) for name in ("videos", "dataset"))
        remote = locations.is_s3(given.output)
        output = Path(scratch, "output") if remote else locations.local_path(given.output)
        summary = run(videos=videos, dataset=dataset, output=output, layout=given.layout, benchmark=benchmark)
        if remote:
            locations.upload_folder(output, given.output)
    print(json.dumps({key: value for key, value in summary.items() if not isinstance(value, list)}, indent=1))
    return 0


def _run_tasks(given: argparse.Namespace) -> int:
    from wan_r1.task_tools.commands import run

    with tempfile.TemporaryDirectory(prefix="wan-r1-") as scratch:
        source = _fetched(given.source, Path(scratch, "source")) if "source" in given else Path(scratch)
        remote = locations.is_s3(given.output)
        output = Path(scratch, "output") if remote else locations.local_path(given.output)
        summary = run(given, source, output)
        if remote:
            locations.upload_folder(output, given.output)
    print(json.dumps({key: value for key, value in summary.items() if not isinstance(value, list)}, indent=1))
    return 0


def _add_lora(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    convert = verbs.add_parser("convert", help="write a LoRA file under the other names", description=_LORA)
    convert.add_argument("source", metavar="FILE", help="a safetensors file of either kind; a path or an S3 URI")
    convert.add_argument("--to", required=True, choices=("diffusers", "diffsynth"), help="names of the written file")
    convert.add_argument("--output", required=True, metavar="PATH_OR_URI", help="the written file")


def _run_lora(given: argparse.Namespace) -> int:
    from wan_r1.video_model.diffsynth import lora_as

    with tempfile.TemporaryDirectory(prefix="wan-r1-") as scratch:
        content = lora_as(_fetched(given.source, Path(scratch)), given.to)
    locations.write_bytes(given.output, content)
    print(f"{given.output}: {given.to} names, {len(content)} bytes")
    return 0


def _stage(command: str) -> tuple[type[StageConfig], Any]:
    """A stage's config and its function."""
    module = importlib.import_module(f"wan_r1.{command.replace('-', '_')}")
    config = next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, StageConfig) and value is not StageConfig
    )
    return config, module.run


def _add_stage(parser: argparse.ArgumentParser, config: type[StageConfig], run: Any) -> None:
    places = parser.add_argument_group("inputs and outputs")
    docs = _argument_docs(run)
    for name, parameter in _places(run).items():
        many = "Path]" in str(parameter.annotation)
        places.add_argument(
            _option(name),
            required=parameter.default is inspect.Parameter.empty,
            nargs="+" if many else None,
            metavar="URI" if name.endswith("_uri") else "PATH_OR_URI",
            help=docs.get(name, "").replace("%", "%%"),
        )
    options = parser.add_argument_group("parameters")
    options.add_argument("--preset", help=f"values of everything that is not given: {', '.join(presets())}")
    defaults = config.defaults()
    for field, doc in field_docs(config).items():
        shown = f"{doc} (default {_shown(defaults.get(field))})" if doc else ""
        options.add_argument(_option(field), metavar=field_form(config, field), help=shown.replace("%", "%%"))


def _run_stage(command: str, given: argparse.Namespace) -> int:
    config_type, run = _stage(command)
    names = [field.name for field in fields(config_type)]
    chosen = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    values = {name: field_value(config_type, name, text) for name, text in chosen.items()}
    config = config_type.from_preset(given.preset, values) if given.preset else config_type.build(values)
    with _quiet_unless_first(), tempfile.TemporaryDirectory(prefix="wan-r1-") as scratch:
        arguments: dict[str, Any] = {}
        uploads: list[tuple[Path, str]] = []
        for number, name in enumerate(name for name in _places(run) if getattr(given, name) is not None):
            value = getattr(given, name)
            if name.endswith("_uri"):
                arguments[name] = value
            elif isinstance(value, list):
                arguments[name] = [_fetched(one, Path(scratch, f"{number}-{i}")) for i, one in enumerate(value)]
            elif (name in OUTPUTS or ALSO_OUTPUTS.get(command) == name) and not is_first():
                # All processes of a training come to the same; only the first one's outputs are kept.
                arguments[name] = Path(scratch, str(number))
            elif locations.is_s3(value) and (name in OUTPUTS or ALSO_OUTPUTS.get(command) == name):
                arguments[name] = Path(scratch, str(number), value.rstrip("/").rpartition("/")[2])
                uploads.append((arguments[name], value))
            else:
                arguments[name] = _fetched(value, Path(scratch, str(number)))
        summary = place(run, config, **arguments) if isinstance(config, PlacedConfig) else run(config, **arguments)
        for path, uri in uploads:
            if not path.exists():
                # Of several processes (`accelerate launch`) only the first writes.
                continue
            locations.upload_folder(path, uri) if path.is_dir() else locations.upload_file(path, uri)
    # What one of several processes says is said by the one that started them.
    if "RANK" not in os.environ and is_first():
        print(json.dumps({key: value for key, value in summary.items() if not isinstance(value, list)}, indent=1))
    return 0


@contextlib.contextmanager
def _quiet_unless_first() -> Iterator[None]:
    """Of processes that train together one tells how far they are; errors are everyone's to tell."""
    if "RANK" not in os.environ or is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _fetched(uri: str, folder: Path) -> Path:
    """A local path with the content of a place; S3 objects are downloaded."""
    if not locations.is_s3(uri):
        return locations.local_path(uri)
    target = folder / uri.rstrip("/").rpartition("/")[2]
    if locations.exists(uri):
        locations.download_file(uri, target)
    else:
        locations.download_folder(uri, target)
    return target


def _run_pipeline(given: argparse.Namespace) -> int:
    if not given.script.is_file():
        print(f"error: {given.script} is no file; expected a pipeline script: pipelines/full.py", file=sys.stderr)
        return 2
    command = [sys.executable, str(given.script), _VERBS[given.verb], *given.rest]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        # The script has had the same signal and has said how it ended.
        return 130


def _places(run: Any) -> dict[str, inspect.Parameter]:
    """The inputs and outputs of a stage's function: all its parameters after the config."""
    return dict(list(inspect.signature(run).parameters.items())[1:])


def _argument_docs(run: Any) -> dict[str, str]:
    """What a docstring's section Args says, by argument."""
    section = re.search(r"^Args:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(run) or "", flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
