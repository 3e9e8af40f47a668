"""Trainings as processes: two (gloo) take the update of one; one that is killed ends as if it had not been."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from first_update import CHAINS, KINDS, LONG
from wan_models import experts_pipeline

from wan_r1.config import ConfigError
from wan_r1.training.placement import DATA_PARALLEL
from wan_r1.training.processes import Processes
from wan_r1.video_model.tiny import tiny_pipeline

HERE = Path(__file__).parent
BEGINNINGS, MIDDLES, ENDS = (list(CHAINS)[start::3] for start in range(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_pipeline(seed=0).save_pretrained(path / "tiny")
    experts_pipeline(seed=3).save_pretrained(path / "experts")
    return path


def _command(folder, output, kinds, processes=1, data_parallel="ddp"):
    output.mkdir(exist_ok=True)
    words = [str(HERE / "first_update.py"), str(folder), str(output), data_parallel, *kinds]
    # What `accelerate launch` starts for several GPUs; without a GPU it would want MPI for more than one process.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return {"args": [sys.executable, *(launcher if processes > 1 else ()), *words], "env": environment}


def _train(*command, **options):
    ran = subprocess.run(**_command(*command, **options), capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _result(output, kind):
    return torch.load(output / f"{kind}.pt", weights_only=True), json.loads((output / f"{kind}.json").read_text())


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """What one process comes to."""
    output = tmp_path_factory.mktemp("alone")
    _train(folder, output, [*KINDS, *BEGINNINGS, *ENDS])
    return output


@pytest.fixture(scope="module")
def together(folder, alone, tmp_path_factory):
    """What two processes come to. Where they share the weights, one has begun the chains before, and one ends them."""
    outputs = {name: tmp_path_factory.mktemp(name) for name in DATA_PARALLEL}
    for begun in {kind.split(":")[0] for kind in BEGINNINGS}:
        first = min((alone / begun).glob("step-*"))
        shutil.copytree(first, outputs["fsdp2"] / begun / first.name)
    for name, output in outputs.items():
        chains = MIDDLES if name == "fsdp2" else ()
        _train(folder, output, [*KINDS, *chains], processes=2, data_parallel=name)
    _train(folder, outputs["fsdp2"], ENDS)
    return outputs


def _flat(value):
    return {"": value} if torch.is_tensor(value) else value


@pytest.mark.parametrize("data_parallel", DATA_PARALLEL)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_update_of_one(alone, together, kind, data_parallel):
    (one, told), (two, told_by_two) = _result(alone, kind), _result(together[data_parallel], kind)
    assert told["processes"] == 1 and told_by_two["processes"] == 2
    assert one.keys() == two.keys() and sum(name.startswith("moment") for name in one) > 50
    largest = 0.0
    for part in one:
        for name, tensor in _flat(one[part]).items():
            torch.testing.assert_close(_flat(two[part])[name], tensor, atol=1e-6, rtol=0, msg=f"{part} {name}")
            if part.startswith("moment"):
                largest = max(largest, float(tensor.abs().max()))
    assert largest > 1e-5, "there was no gradient; nothing was tested"
    for mine, theirs in zip(told["log"], told_by_two["log"], strict=True):
        assert mine.keys() == theirs.keys()
        names = ("reward", "em", "grad_norm", "zero_std_groups", "replay_levels")
        for name in (*names, "stitching_tried", "stitching_solved", "stitching_videos"):
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6), name
        if kind == "stitched":
            assert 0 < mine["stitching_solved"] < mine["stitching_tried"] < 1, "some groups each way"


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_weights_take_half_of_the_memory(together, kind):
    whole, told = (_result(together[name], kind)[1] for name in DATA_PARALLEL)
    assert whole["held"] == [whole["weights"]] * 2
    adapter = told["learned"] if "lora" in kind else 0
    for held in told["held"]:
        assert held - adapter == pytest.approx((told["weights"] - adapter) / 2, rel=0.02)


@pytest.mark.parametrize(("middle", "end"), list(zip(MIDDLES, ENDS, strict=True)))
def test_a_checkpoint_does_not_tell_how_many_made_it(alone, together, middle, end):
    """One process begins, two that share the weights go on, one ends."""
    output = together["fsdp2"]
    (whole, told), (parts, told_by_parts) = _result(alone, end), _result(output, end)
    assert len(told_by_parts["log"]) == len(told["log"]) > len(_result(output, middle)[1]["log"])
    assert parts.keys() == whole.keys()
    for part in whole:
        for name, tensor in _flat(whole[part]).items():
            torch.testing.assert_close(_flat(parts[part])[name], tensor, atol=1e-6, rtol=0, msg=f"{part} {name}")


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    class Three:
        num_processes, process_index = 3, 0

    with pytest.raises(ConfigError, match=r"sft_batch_size=32 .* 3 processes; .* such as 30 or 33"):
        Processes(Three()).require_share("sft_batch_size", 32)


@pytest.mark.parametrize("kind", LONG)
def test_a_training_that_is_killed_ends_as_if_it_had_not_been(folder, tmp_path, kind):
    _train(folder, tmp_path / "whole", [kind])
    command = _command(folder, tmp_path / "killed", [kind])
    steps = tmp_path / "killed" / kind
    kills, delays = 0, np.random.default_rng(0).uniform(0, 0.6, 2)
    for delay in delays:
        known = set(steps.glob("step-*"))
        process = subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Somewhere after the next checkpoint, so that each try has something to go on from.
        while process.poll() is None and not set(steps.glob("step-*")) - known:
            time.sleep(0.02)
        time.sleep(delay)
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == len(delays), "the training ended before it was killed; nothing was tested"
    ended = subprocess.run(**command, check=True, capture_output=True, text=True, timeout=300)
    assert " resumed at " in ended.stdout
    whole, killed = (_result(tmp_path / name, kind)[0] for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for part in whole:
        for name, tensor in _flat(whole[part]).items():
            assert torch.equal(_flat(killed[part])[name], tensor), f"{part} {name}"
