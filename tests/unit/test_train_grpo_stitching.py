"""Failed videos that the policy goes on from: where they are cut, what is verified, and what is remembered."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import grpo, tasks

from wan_r1.config import ConfigError
from wan_r1.rewards import get_reward
from wan_r1.tasks.dataset import make_task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import roll_out
from wan_r1.train_grpo.stitching import last_right_move, stitch
from wan_r1.training.randomness import torch_generator
from wan_r1.verification import verify
from wan_r1.video_model.tiny import tiny_pipeline

GROUP = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def long_levels():
    """Levels of at least six moves, with their videos."""
    found = [task for task in tasks("train", 80, "hard") if len(task.solution) > 6]
    assert {task.family for task in found} == {"regular", "trapfield"}
    return found[:8]


def _stuck(video, moves):
    """A video whose player stops after so many moves (one a frame)."""
    return np.concatenate([video[: moves + 1], np.repeat(video[moves : moves + 1], len(video) - moves - 1, 0)])


def _teleporting(video, moves):
    """A video whose player jumps to the goal after so many moves."""
    return np.concatenate([video[: moves + 1], np.repeat(video[-1:], len(video) - moves - 1, 0)])


class Policy:
    """Draws what the references show from a first image on, at most ``moves`` moves; of the first image of a level it
    ends in a way of its own."""

    def __init__(self, model, levels, moves, ending=_stuck):
        self.model, self.levels, self.moves, self.ending = model, levels, moves, ending
        self.calls = []

    def __call__(self, noise, condition, part=None):
        images = self.model.decode(condition.first_latent)[:, 0].astype(int)
        shown, begins = [], []
        for image in images:
            away = [[np.abs(image - frame).mean() for frame in task.video] for task in self.levels]
            level, begin = divmod(int(np.argmin(away)), len(self.levels[0].video))
            video = self.levels[level].video
            rest = np.concatenate([video[begin:], np.repeat(video[-1:], begin, 0)])
            shown.append((self.ending if begin == 0 else _stuck)(rest, self.moves))
            begins.append(begin)
        self.calls.append(begins)
        latents = self.model.encode_videos(np.stack(shown))
        return (latents, []) if part is not None else latents


def _rolled_out(trainer, policy, levels):
    prompts = replace(trainer.prompts, tasks=levels)
    prompts.first_latents = trainer.model.encode_videos(np.stack([task.first_frame for task in levels])[:, None])
    prompts.prompt_of = torch.zeros(len(levels), dtype=torch.int64)
    noise = torch.zeros(GROUP * len(levels), *prompts.first_latents.shape[1:2], 3, *prompts.first_latents.shape[3:])
    rollout = roll_out(
        trainer.model,
        prompts,
        np.arange(len(levels)),
        group_size=GROUP,
        noise=noise,
        sampler=policy,
        reward=get_reward("trajectory"),
    )
    return prompts, rollout


def _stitched(trainer, policy, levels, rounds, **more):
    prompts, rollout = _rolled_out(trainer, policy, levels)
    policy.calls.clear()
    trainer.prepare()
    found = stitch(
        trainer.model,
        prompts,
        rollout,
        noise=torch.zeros(rounds, len(levels), *rollout.latents.shape[1:]),
        sampler=policy,
        reward=get_reward("trajectory"),
        processes=trainer.processes,
        **more,
    )
    return found, rollout


@pytest.mark.parametrize("moves", [1, 2, 3])
@pytest.mark.parametrize("ending", [_stuck, _teleporting])
def test_a_video_is_cut_where_its_last_right_move_leads(long_levels, moves, ending):
    verdicts = verify(np.stack([ending(task.video, moves) for task in long_levels]), long_levels)
    for task, verdict in zip(long_levels, verdicts, strict=True):
        found, frame = last_right_move(task, verdict)
        assert found == moves
        away = np.abs(verdict.track[frame] - task.level.center(task.solution[moves])).max()
        assert away < 0.02, "the player stands in the middle of its cell"
        assert frame == moves


def test_nothing_is_gone_on_from_without_a_right_move_or_after_a_success(long_levels):
    task = long_levels[0]
    still = np.repeat(task.video[:1], len(task.video), 0)
    white = np.full_like(task.video, 255)
    for verdict in verify(np.stack([still, task.video, white]), [task] * 3):
        assert last_right_move(task, verdict) is None


def test_a_slow_player_is_cut_in_the_middle_of_its_cell():
    task = make_task(
        "regular", "hard", "plain", seed=0, split="train", index=1, frames=33, size=64, canvas=4, steps_per_frame=0.25
    )
    stop = 4 * 2 + 1
    (verdict,) = verify(_stuck(task.video, stop)[None], [task])
    moves, frame = last_right_move(task, verdict)
    assert (moves, frame) == (2, 8) and verdict.walk_frames[2] < 8


def test_a_ball_is_cut_where_the_last_cube_of_its_way_was_reached():
    """Ladders take several frames, so that places and frames are not the same number."""
    tasks = [
        make_task(
            "maze3d", "hard", "plain", seed=3, split="train", index=k, frames=9, size=64, canvas=8, steps_per_frame=1.0
        )
        for k in range(8)
    ]
    stop = 4
    verdicts = verify(np.stack([_stuck(task.video, stop) for task in tasks]), tasks)
    climbed = 0
    for task, verdict in zip(tasks, verdicts, strict=True):
        centers = np.array([task.level.center(place) for place in task.solution])
        away = np.abs(centers[:, None] - task.trajectory[None, : stop + 1]).max(-1).min(1)
        moves, frame = last_right_move(task, verdict)
        assert moves == np.flatnonzero(away < 0.02).max() and frame <= stop
        assert np.abs(verdict.track[frame] - centers[moves]).max() < 0.05
        climbed += moves < stop
    assert climbed, "some of them climb"


@pytest.mark.parametrize("ending", [_stuck, _teleporting])
def test_failures_become_successes_that_show_the_given_level_from_its_start(folder, tmp_path, long_levels, ending):
    trainer = grpo(folder, tmp_path)
    found, rollout = _stitched(trainer, Policy(trainer.model, long_levels, 4, ending), long_levels, 1)
    assert not any(verdict.em for verdict in rollout.verdicts)
    assert found.tried == found.sampled == len(long_levels)
    within = {k for k, task in enumerate(long_levels) if len(task.solution) - 1 == 6}
    assert within <= {success.level for success in found.successes} and len(within) > 2
    assert {success.rate for success in found.successes} == {1 / (GROUP + 1)}
    videos = trainer.model.decode(torch.cat([success.video for success in found.successes]))
    shown = [long_levels[success.level] for success in found.successes]
    assert all(verdict.em for verdict in verify(videos, shown))


def test_further_rounds_go_on_from_where_the_one_before_came_to(folder, tmp_path, long_levels):
    trainer = grpo(folder, tmp_path)
    levels = [task for task in long_levels if len(task.solution) - 1 == 6]
    once, _ = _stitched(trainer, Policy(trainer.model, levels, 2), levels, 1)
    assert once.successes == []
    policy = Policy(trainer.model, levels, 2)
    twice, _ = _stitched(trainer, policy, levels, 2, chunk=2)
    assert len(twice.successes) == len(levels) and {s.rate for s in twice.successes} == {1 / (GROUP + 2)}
    begins = [begin for call in policy.calls for begin in call]
    assert sorted(set(begins)) == [2, 4] and max(map(len, policy.calls)) == 2


def test_a_policy_that_jumps_to_the_goal_from_there_gets_no_success(folder, tmp_path, long_levels):
    trainer = grpo(folder, tmp_path)
    policy = Policy(trainer.model, long_levels, 3)
    prompts, rollout = _rolled_out(trainer, policy, long_levels)
    trainer.prepare()

    def jumps(noise, condition):
        images = trainer.model.decode(condition.first_latent)[:, 0]
        shown = [
            _teleporting(np.concatenate([i[None], task.video[1:]]), 0)
            for i, task in zip(images, long_levels, strict=True)
        ]
        return trainer.model.encode_videos(np.stack(shown))

    noise = torch.zeros(1, len(long_levels), *rollout.latents.shape[1:])
    given = {"reward": get_reward("trajectory"), "processes": trainer.processes}
    found = stitch(trainer.model, prompts, rollout, noise=noise, sampler=jumps, **given)
    assert found.tried == found.sampled == len(long_levels) and found.successes == []


def test_training_replays_what_it_stitched_and_logs_it(folder, tmp_path, long_levels, monkeypatch):
    settings = {"objective": "forward_grpo", "replay_batch": 2, "stitches": 2, "iterations": 1, "group_size": GROUP}
    trainer = grpo(folder, tmp_path, **settings, prompts_per_iteration=4)
    policy = Policy(trainer.model, long_levels, 4)
    trainer.prompts, _ = _rolled_out(trainer, policy, long_levels)
    for module in ("training", "forward_grpo"):
        monkeypatch.setattr(
            f"wan_r1.train_grpo.{module}.ode_sample", lambda _, noise, given, grid: policy(noise, given)
        )
    trainer.run()
    (entry,) = trainer.state.log
    assert entry["em"] == 0 and entry["stitching_tried"] == entry["stitching_solved"] == 1
    assert len(trainer.replay) == 4 and 1 <= entry["stitching_videos"] < 2
    assert entry["grad_norm"] > 0


def test_the_noise_of_a_run_without_stitching_is_what_it_was(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    trainer.prepare()
    _, generator = trainer.draw_prompts()
    again = torch_generator(0, "train_grpo", "rollout", 0, 0)
    assert torch.equal(torch.randn(3, generator=generator), torch.randn(3, generator=again))


def test_stitching_needs_a_replay_and_the_other_objective_leaves_it(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"grpo_stitches.*grpo_replay_batch"):
        TrainGrpoConfig(stitches=1, objective="forward_grpo").validate()
    TrainGrpoConfig.from_preset("tiny", {"objective": "flow_grpo"}).validate()
    trainer = grpo(folder, tmp_path, objective="flow_grpo", replay_batch=2, stitches=1, iterations=1)
    trainer.run()
    assert not any(name.startswith("stitching") for name in trainer.state.log[0])
