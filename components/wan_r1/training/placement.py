"""Where a training runs: in this process, in several of this machine, or as a TrainJob of Kubeflow Trainer.

`place` decides it from the config and the environment. Processes that train together are started by
``accelerate launch`` as the stage's own command; each then knows its rank by the variables that torch.distributed uses.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import FrameType
from typing import Any, ClassVar

from wan_r1.config import ConfigError, StageConfig
from wan_r1.runtime import StageClock
from wan_r1.video_model.reference import ModelReference

TRAIN_RUNTIME = "WAN_R1_TRAIN_RUNTIME"
"""Variable with the name of a TrainingRuntime: where it is set, trainings are submitted as TrainJobs that run in it."""
TRAIN_IMAGE = "WAN_R1_TRAIN_IMAGE"
"""Variable with the image of those TrainJobs; the runtime's own if it is not set."""
DATA_PARALLEL = ("ddp", "fsdp2")


class PlacementError(RuntimeError):
    """A training that ran elsewhere did not succeed. The message says why, or where that is written."""


@dataclass(frozen=True, kw_only=True)
class PlacedConfig(StageConfig):
    """Base of the trainings' configs: how many processes share a training."""

    DEALT: ClassVar[str] = ""
    """Field whose items are dealt to the processes, the same number to each."""

    processes: int = 1
    """Processes of a node that train together, each on a GPU of its own; 0 takes as many visible GPUs as share a batch
    evenly."""
    nodes: int = 1
    """Nodes that train together; more than one take a TrainJob."""
    data_parallel: str = "ddp"
    """`ddp`: each process holds the whole model; `fsdp2`: they share its weights, adapters aside, and gather each block
    when it is its turn."""
    threads: int = 0
    """CPU threads; 0 uses every core."""

    def validate(self) -> None:
        """Check ranges, and that no process gets more of a batch than another."""
        self.require("processes", self.processes >= 0, "a whole number from 0 (0 takes every visible GPU)")
        self.require("nodes", self.nodes >= 1, "a whole number from 1")
        self.require("threads", self.threads >= 0, "a whole number from 0 (0 uses every core)")
        self.require_choice("data_parallel", DATA_PARALLEL)
        self.require(
            "data_parallel",
            self.data_parallel == "ddp" or getattr(self, "precision", "no") != "fp16",
            "ddp with fp16, whose scaling of the loss looks at whole gradients",
        )
        dealt, world = getattr(self, self.DEALT), max(1, self.processes) * self.nodes
        name = "nodes" if self.nodes > 1 and self.processes <= 1 else "processes"
        self.require(
            name,
            dealt % world == 0,
            f"so many that all {world} processes get the same share of {self._shown(self.DEALT)}={dealt}",
        )


def place(run: Callable[..., dict[str, Any]], config: PlacedConfig, **arguments: Any) -> dict[str, Any]:
    """Run a training where its config and the environment put it.

    Args:
        run: the stage's function.
        config: its parameters.
        arguments: its inputs and outputs, as ``run`` takes them.

    Returns:
        The stage's summary; that of several processes has the time, core time and memory of all on this node. On a
        node other than the first it is empty, and nothing is written: the first one's is the training's.

    Raises:
        ConfigError: if the placement cannot be had here.
        PlacementError: if other processes did the training and failed.
    """
    if "RANK" in os.environ:
        # One of the processes that train together.
        return run(config, **arguments)
    runtime = os.environ.get(TRAIN_RUNTIME)
    if runtime and "PET_NODE_RANK" not in os.environ:
        from wan_r1.training.train_jobs import run_as_job

        return run_as_job(config, runtime=runtime, image=os.environ.get(TRAIN_IMAGE, ""), **arguments)
    config = _counted(config)
    if config.processes * config.nodes == 1:
        return run(config, **arguments)
    return _run_together(config, arguments)


def is_first() -> bool:
    """Whether this process is the one whose outputs count: the first of the first node."""
    return int(os.environ.get("RANK", os.environ.get("PET_NODE_RANK", "0"))) == 0


def stage_words(config: StageConfig, places: Mapping[str, Any]) -> list[str]:
    """The words of ``wan-r1`` that run a stage with this config; values that are the defaults are left out.

    Args:
        config: the stage's parameters.
        places: paths and URIs by argument of the stage's function; `None` is left out.
    """
    defaults = config.defaults()
    words = [config.STAGE.replace("_", "-")]
    words += [f"{_option(name)}={place}" for name, place in places.items() if place is not None]
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    return words + [
        f"{_option(name)}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in given.items()
        if value != defaults.get(name)
    ]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _counted(config: PlacedConfig) -> PlacedConfig:
    """The config with the number of processes that this node really starts."""
    here = int(os.environ.get("PET_NNODES", "1"))
    if config.nodes != here:
        raise ConfigError(
            f"{config._shown('nodes')}={config.nodes} is not allowed here, where a training has {here} "
            f"node{'s' if here > 1 else ''}; more take a TrainJob: name a train_runtime in the deployment file, "
            "or use pipelines/train_job.py"
        )
    if config.processes == 0:
        config = replace(config, processes=_most_even(config, _visible_gpus()))
    if config.processes > 1 and not config.threads and not _visible_gpus():
        # Without a GPU the processes share this node's cores.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        config = replace(config, threads=max(1, cores // config.processes))
    return config


def _most_even(config: PlacedConfig, gpus: int) -> int:
    """Processes of a node, at most one a GPU, that get the same share of what is dealt."""
    dealt = getattr(config, config.DEALT)
    found = max(count for count in range(1, max(1, gpus) + 1) if dealt % (count * config.nodes) == 0)
    if found < gpus:
        name = config._shown(config.DEALT)
        print(f"{config.STAGE}  uses {found} of {gpus} GPUs: more do not share {name}={dealt} evenly", flush=True)
    return found


def _visible_gpus() -> int:
    # Imported here: configs derive from this module's, and must not cost the seconds that torch takes.
    import torch

    return torch.cuda.device_count()


def _run_together(config: PlacedConfig, arguments: dict[str, Any]) -> dict[str, Any]:
    with StageClock(config.STAGE) as clock:
        # Its own choices would come back through these variables, which mean this node and not its processes.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PET_")}
        command = [*_launcher(config), *stage_words(config, arguments)]
        said = ""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=kept
        ) as processes:
            assert processes.stdout is not None
            with _forwarded_termination(processes) as evicted:
                for line in processes.stdout:
                    print(line, end="", flush=True)
                    if not said and line.startswith("error: "):
                        said = line.removeprefix("error: ").strip()
    if evicted:
        raise SystemExit(128 + signal.SIGTERM)
    if processes.returncode:
        raise PlacementError(
            said or f"the processes of {config.STAGE} ended with status {processes.returncode}; why stands above"
        )
    if not is_first():
        return {}
    reference = ModelReference.read(arguments["output"])
    summary = {**(reference.stage or {}), **clock.summary()}
    reference.with_(stage=summary).write(arguments["output"])
    return summary


@contextlib.contextmanager
def _forwarded_termination(processes: subprocess.Popen[str]) -> Iterator[list[int]]:
    """SIGTERM goes on to the processes, which save what they have before they end; it is put into the list."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        processes.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _launcher(config: PlacedConfig) -> list[str]:
    """``accelerate launch`` with everything given that it would otherwise take from a file in the user's home."""
    options: dict[str, Any] = {
        "num_processes": config.processes * config.nodes,
        "num_machines": config.nodes,
        "mixed_precision": getattr(config, "precision", "no"),
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": max(1, config.threads),
        # Any free port.
        "main_process_port": 0,
    }
    if config.nodes > 1:
        options |= {
            "machine_rank": os.environ["PET_NODE_RANK"],
            "main_process_ip": os.environ["PET_MASTER_ADDR"],
            "main_process_port": os.environ["PET_MASTER_PORT"],
        }
    words = [f"--{name}={value}" for name, value in options.items()]
    # Its word for one process a device; without GPUs they compute on the CPU.
    return [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *words, "--module", "wan_r1.cli"]
