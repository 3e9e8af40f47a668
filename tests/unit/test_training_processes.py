"""Trainings as processes: two (gloo) take the update of one; one that is killed ends as if it had not been."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from first_update import KINDS, LONG

from wan_r1.config import ConfigError
from wan_r1.training.processes import Processes
from wan_r1.video_model.tiny import tiny_pipeline

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _command(folder, tmp_path, name, kind, launcher=()):
    words = [str(HERE / "first_update.py"), str(folder), str(tmp_path / f"prefix-{name}"), str(tmp_path / f"{name}.pt")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return {"args": [sys.executable, *launcher, *words, kind], "env": environment}


def _update(folder, tmp_path, kind, processes):
    # What `accelerate launch` starts for several GPUs; without a GPU it would want MPI for more than one process.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = _command(folder, tmp_path, processes, kind, launcher if processes > 1 else ())
    ran = subprocess.run(**command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads((tmp_path / f"{processes}.json").read_text())
    assert told["processes"] == processes
    return torch.load(tmp_path / f"{processes}.pt", weights_only=True), told["log"]


def _flat(value):
    return {"": value} if torch.is_tensor(value) else value


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_update_of_one(folder, tmp_path, kind):
    (one, log), (two, log_of_two) = (_update(folder, tmp_path, kind, processes) for processes in (1, 2))
    assert one.keys() == two.keys() and sum(name.startswith("moment") for name in one) > 50
    largest = 0.0
    for part in one:
        for name, tensor in _flat(one[part]).items():
            torch.testing.assert_close(_flat(two[part])[name], tensor, atol=1e-6, rtol=0, msg=f"{part} {name}")
            if part.startswith("moment"):
                largest = max(largest, float(tensor.abs().max()))
    assert largest > 1e-4, "there was no gradient; nothing was tested"
    for mine, theirs in zip(log, log_of_two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("reward", "em", "grad_norm", "zero_std_groups", "replay_levels"):
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6), name


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    class Three:
        num_processes, process_index = 3, 0

    with pytest.raises(ConfigError, match=r"sft_batch_size=32 .* 3 processes; .* such as 30 or 33"):
        Processes(Three()).require_share("sft_batch_size", 32)


@pytest.mark.parametrize("kind", LONG)
def test_a_training_that_is_killed_ends_as_if_it_had_not_been(folder, tmp_path, kind):
    subprocess.run(**_command(folder, tmp_path, "whole", kind), check=True, capture_output=True, timeout=300)
    command = _command(folder, tmp_path, "killed", kind)
    kills, delays = 0, np.random.default_rng(0).uniform(0, 0.6, 2)
    for delay in delays:
        known = set((tmp_path / "prefix-killed").glob("step-*"))
        process = subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Somewhere after the next checkpoint, so that each try has something to go on from.
        while process.poll() is None and not set((tmp_path / "prefix-killed").glob("step-*")) - known:
            time.sleep(0.02)
        time.sleep(delay)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == len(delays), "the training ended before it was killed; nothing was tested"
    ended = subprocess.run(**command, check=True, capture_output=True, text=True, timeout=300)
    assert " resumed at " in ended.stdout
    whole, killed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for part in whole:
        for name, tensor in _flat(whole[part]).items():
            assert torch.equal(_flat(killed[part])[name], tensor), f"{part} {name}"
