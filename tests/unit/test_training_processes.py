"""Two processes (gloo) take the first update that one process takes with the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from first_update import KINDS

from wan_r1.config import ConfigError
from wan_r1.training.processes import Processes
from wan_r1.video_model.tiny import tiny_pipeline

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _update(folder, tmp_path, kind, processes):
    output = tmp_path / f"{processes}.pt"
    # What `accelerate launch` starts for several GPUs; without a GPU it would want MPI for more than one process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = [str(HERE / "first_update.py"), str(folder), str(tmp_path / f"prefix-{processes}"), str(output), kind]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [*launch, *words] if processes > 1 else [sys.executable, *words]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(output.with_suffix(".json").read_text())
    assert told["processes"] == processes
    return torch.load(output, weights_only=True), told["log"]


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
