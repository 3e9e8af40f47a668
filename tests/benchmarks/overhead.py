"""What Kubeflow's local runner costs: a pipeline's stages as plain Python calls, and as its subprocesses.

    python tests/benchmarks/overhead.py --rounds 2 --output runs/overhead.json

Both ways call the same functions with the same small configuration and seed, each way in a process of its own, in
turns; of several rounds the least seconds of each stage count. Plain calls share one process, so that only the first of
them that needs torch waits for its import; the runner starts a process for each stage, which imports what it needs. The
difference hardly depends on how much a stage has to do, so a longer run has it as often as it has tasks: the script
also says what share of the committed demo's stage seconds that is. Core seconds are processor time, which other
programs hardly change; start-up uses one core, so that on an idle machine they are its wall seconds.
"""

# Annotations stay objects: the SDK reads those of a pipeline.

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kfp import dsl, local

from wan_r1.evaluate.component import evaluate
from wan_r1.generate_tasks.component import generate_tasks
from wan_r1.prepare_model.component import prepare_model
from wan_r1.runtime import core_seconds, git_commit, machine
from wan_r1.train_grpo.component import train_grpo
from wan_r1.train_sft.component import train_sft
from wan_r1.validate_tasks.component import validate_tasks

DEMO = Path(__file__).parent / "demo" / "results.json"
# Tasks of the demo's pipeline that its results do not list: summarise_run and record_outcome.
UNLISTED = 2

LEVELS = {f"{split}_levels": 8 for split in ("train", "validation", "prompts", "test", "harder")}
VALUES: dict[str, dict[str, Any]] = {
    "generate_tasks": {"families": ["regular"], "settings": LEVELS},
    "validate_tasks": {},
    "prepare_model": {},
    "train_sft": {"steps": 4, "batch_size": 8, "settings": {"validate_every": 4, "validation_levels": 4}},
    "train_grpo": {
        "group_size": 2,
        "iterations": 2,
        "settings": {"prompts_per_iteration": 2, "rollout_steps": 2, "validation_levels": 4},
    },
    "evaluate": {"samples": 8, "steps": 2},
}
"""Parameters of each stage."""

INPUTS = {
    "validate_tasks": {"dataset": "generate_tasks/dataset"},
    "train_sft": {"model": "prepare_model/model"},
    "train_grpo": {"model": "train_sft/trained"},
    "evaluate": {"model": "train_grpo/trained"},
}
"""Artifacts that a stage takes from others; those with a model also take the data and its certificate."""
DATA = {"dataset": "generate_tasks/dataset", "certificate": "validate_tasks/certificate"}

Seconds = dict[str, dict[str, float]]
"""Wall and core seconds by stage."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TASK = re.compile(r"(Executing task|Task) '([\w-]+)'(?: finished)?")


def _now() -> dict[str, float]:
    """Clocks of this process and the children that it has waited for."""
    return {"wall": time.monotonic(), "core": core_seconds()}


def _since(begin: dict[str, float]) -> dict[str, float]:
    return {clock: value - begin[clock] for clock, value in _now().items()}


def plain(folder: Path) -> Seconds:
    """Seconds of each stage as a plain call in this process."""
    components = (generate_tasks, validate_tasks, prepare_model, train_sft, train_grpo, evaluate)
    seconds = {}
    for component in components:
        name = component.python_func.__name__
        inputs = INPUTS.get(name, {})
        inputs = {**DATA, **inputs} if "model" in inputs else inputs
        places = dict(inputs)
        outputs = component.component_spec.outputs or {}
        places |= {output: f"{name}/{output}" for output in outputs}
        (folder / name).mkdir(parents=True)
        arguments: dict[str, Any] = {}
        for argument, place in places.items():
            kind = dsl.Metrics if argument == "metrics" else dsl.Artifact
            arguments[argument] = kind(name=argument, uri=str(folder / place), metadata={})
        if "storage_uri" in (component.component_spec.inputs or {}):
            arguments["storage_uri"] = str(folder / "storage")
        begin = _now()
        component.python_func(**arguments, **VALUES[name])
        seconds[name] = _since(begin)
    return seconds


@dsl.pipeline(name="overhead")
def stages(storage_uri: str):
    """The same stages as a pipeline."""
    tasks = generate_tasks(**VALUES["generate_tasks"])
    checked = validate_tasks(dataset=tasks.outputs["dataset"], **VALUES["validate_tasks"])
    data = {"dataset": tasks.outputs["dataset"], "certificate": checked.outputs["certificate"]}
    base = prepare_model(storage_uri=storage_uri, **VALUES["prepare_model"])
    sft = train_sft(model=base.outputs["model"], storage_uri=storage_uri, **data, **VALUES["train_sft"])
    grpo = train_grpo(model=sft.outputs["trained"], storage_uri=storage_uri, **data, **VALUES["train_grpo"])
    evaluate(model=grpo.outputs["trained"], **data, **VALUES["evaluate"])


class _Clock(io.TextIOBase):
    """Stands in for standard output and takes the time at which the runner says that a task starts and ends."""

    def __init__(self) -> None:
        self.seconds: Seconds = {}
        self._begun: Seconds = {}
        self._text = ""

    def write(self, text: str) -> int:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            found = _TASK.search(_COLOUR.sub("", line))
            if found and found[1] == "Executing task":
                self._begun[found[2]] = _now()
            elif found and found[0].endswith("finished"):
                self.seconds[found[2].replace("-", "_")] = _since(self._begun[found[2]])
        return len(text)


def piped(folder: Path) -> Seconds:
    """Seconds of each stage as a subprocess of Kubeflow's local runner, and of what it does besides."""
    runner = local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=str(folder), workspace_root=tempfile.mkdtemp(), enable_caching=False)
    clock = _Clock()
    begin = _now()
    with contextlib.redirect_stdout(clock):
        stages(storage_uri=str(folder / "storage"))
    whole = _since(begin)
    in_tasks = {kind: sum(one[kind] for one in clock.seconds.values()) for kind in whole}
    return {**clock.seconds, "between": {kind: whole[kind] - in_tasks[kind] for kind in whole}}


WAYS = {"plain": plain, "piped": piped}


def _measure(way: str) -> Seconds:
    """One round of one way in a process of its own."""
    command = [sys.executable, __file__, "--way", way]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def summary(rounds: list[dict[str, Seconds]], kind: str) -> dict[str, Any]:
    """The least seconds of each stage both ways, by one kind of clock, and what follows for the committed demo."""
    best = {way: {name: min(one[way][name][kind] for one in rounds) for name in rounds[0][way]} for way in WAYS}
    totals = {way: sum(seconds.values()) for way, seconds in best.items()}
    a_task = (totals["piped"] - totals["plain"]) / len(best["plain"])
    demo = json.loads(DEMO.read_text())["stages"]
    worked = sum(stage["seconds" if kind == "wall" else "core_seconds"] for stage in demo)
    return {
        "seconds": best,
        "total": totals,
        "overhead_a_task": a_task,
        "demo": {
            "tasks": len(demo) + UNLISTED,
            "stage_seconds": worked,
            "overhead_share": a_task * (len(demo) + UNLISTED) / worked,
        },
    }


def show(found: dict[str, Any], kind: str) -> None:
    """Print a summary as a table."""
    print(f"{kind + ' seconds':16}{'plain':>8}{'piped':>8}")
    for name, seconds in found["seconds"]["piped"].items():
        print(f"{name:16}{found['seconds']['plain'].get(name, 0.0):8.2f}{seconds:8.2f}")
    print(f"{'total':16}{found['total']['plain']:8.2f}{found['total']['piped']:8.2f}")
    demo = found["demo"]
    print(f"overhead: {found['overhead_a_task']:.2f} {kind} seconds a task")
    share = f"{100 * demo['overhead_share']:.1f} %"
    print(
        f"the committed demo: {demo['tasks']} tasks, {demo['stage_seconds']:.0f} in stages, overhead {share} of them\n"
    )


def main() -> None:
    """Measure, print a table, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(WAYS[given.way](Path(folder))))
        return
    rounds = [{way: _measure(way) for way in WAYS} for _ in range(given.rounds)]
    found = {kind: summary(rounds, kind) for kind in ("wall", "core")}
    for kind, one in found.items():
        show(one, kind)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        content = {"git_commit": git_commit(), "machine": machine(), "rounds": given.rounds, **found}
        given.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
