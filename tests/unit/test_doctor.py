"""`wan-r1 doctor`: it passes what works, and each check finds the fault that it is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import tasks, video_model

from wan_r1.doctor import DoctorError, checks, run
from wan_r1.doctor.checks import BRIGHTNESS, all_checks
from wan_r1.train_grpo import flow_grpo, training
from wan_r1.train_grpo.advantages import Advantages, group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.video_model import sampling
from wan_r1.video_model.sde import sde_step
from wan_r1.video_model.tiny import tiny_pipeline

SETTINGS = {
    "objective": "flow_grpo",
    "reward": BRIGHTNESS,
    "least_std": 0.0,
    "rollout_steps": 3,
    "group_size": 4,
    "prompts_per_iteration": 4,
    "learning_rate": 1e-3,
    "harder_share": 0.5,
    "lora_rank": 4,
    "threads": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _findings(folder, scratch, model=None, **changes):
    config = TrainGrpoConfig(**(SETTINGS | changes))
    model = model or video_model(folder)
    found = all_checks(config, model, tasks("train", 8), tasks("prompts", 8, "hard"), scratch)
    return {finding.check.partition(" (")[0]: finding for finding in found}


def test_all_is_well_where_nothing_is_wrong(folder, tmp_path):
    findings = _findings(folder, tmp_path)
    assert [str(finding) for finding in findings.values() if not finding.good] == []
    assert list(findings) == [
        "reference videos through the codec",
        "groups with different rewards",
        "the SDE without noise is the ODE",
        "the ratio is 1 before the first update",
        "gradients reach the trained weights",
        "a trivial reward",
        "processes have the same weights after an update",
    ]
    assert "40 of 80 tensors; 40 wait" in findings["gradients reach the trained weights"].seen


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(checks, "_TRIVIAL", checks._TRIVIAL | {"iterations": 1})


def test_a_codec_that_loses_the_player_is_found(folder, tmp_path, quick):
    model = video_model(folder)
    decode = model.decode
    model.decode = lambda latents: (decode(latents) // 2).astype(np.uint8)
    finding = _findings(folder, tmp_path, model)["reference videos through the codec"]
    assert not finding.good and finding.seen.startswith("0.000 of 8")


def test_a_replay_that_differs_from_the_rollout_is_found(folder, tmp_path, quick, monkeypatch):
    def other(*arguments, **options):
        return sde_step(*arguments, **(options | {"noise": options["noise"] * 1.01}))

    monkeypatch.setattr(flow_grpo, "sde_step", other)
    findings = _findings(folder, tmp_path)
    assert not findings["the ratio is 1 before the first update"].good
    assert findings["the SDE without noise is the ODE"].good


def test_noise_where_none_was_asked_for_is_found(folder, tmp_path, quick, monkeypatch):
    def other(*arguments, **options):
        return sde_step(*arguments, **(options | {"noise": options["noise"] + 0.1}))

    monkeypatch.setattr(sampling, "sde_step", other)
    assert not _findings(folder, tmp_path)["the SDE without noise is the ODE"].good


def test_a_weight_without_gradient_is_named(folder, tmp_path, quick):
    model = video_model(folder)
    parameter = torch.nn.Parameter(torch.zeros(3))
    model.transformer.register_parameter("forgotten", parameter)
    finding = _findings(folder, tmp_path, model, lora_rank=0)["gradients reach the trained weights"]
    assert not finding.good and "no gradient in forgotten" in finding.remedy


def test_an_advantage_of_the_wrong_sign_is_found(folder, tmp_path, monkeypatch):
    def negative(*arguments, **options):
        right = group_advantages(*arguments, **options)
        return Advantages(values=-right.values, mixed=right.mixed, trained=right.trained)

    monkeypatch.setattr(training, "group_advantages", negative)
    finding = _findings(folder, tmp_path)["a trivial reward"]
    assert not finding.good and "by -0" in finding.seen


@pytest.mark.parametrize("preset", ["tiny", "small", "wan2.2-ti2v-5b"])
def test_what_it_changes_fits_every_preset(preset):
    config = TrainGrpoConfig.from_preset(preset, {})
    for changes in (checks._TRIVIAL | {"reward": BRIGHTNESS}, {"reward": BRIGHTNESS, "objective": "flow_grpo"}):
        replace(config, **changes).validate()


def test_a_trivial_reward_is_learned_from_groups_that_tell_something():
    small = TrainGrpoConfig(group_size=2, prompts_per_iteration=48)
    assert checks._telling_groups(small, 1) == {"group_size": 8, "prompts_per_iteration": 12}
    assert checks._telling_groups(small, 5) == {"group_size": 8, "prompts_per_iteration": 10}
    large = TrainGrpoConfig(group_size=12, prompts_per_iteration=8)
    assert checks._telling_groups(large, 4) == {"group_size": 12, "prompts_per_iteration": 8}


def test_the_command_tells_what_failed_and_leaves_a_report(tmp_path, quick, capsys):
    config = TrainGrpoConfig(**(SETTINGS | {"reward": "trajectory", "least_std": 0.5}))
    with pytest.raises(DoctorError, match=r"[12] of 7 checks failed: .*groups with different rewards"):
        run(config, report=tmp_path / "doctor.txt")
    assert (tmp_path / "doctor.txt").read_text().count("wanted:") == 7
    assert "BAD   groups with different rewards (trajectory): 0.00 of 4" in capsys.readouterr().out
