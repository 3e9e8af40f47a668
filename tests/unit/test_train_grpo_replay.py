"""Successes and demonstrations that join the optimizer steps of `forward_grpo`: which are kept, drawn, and how seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import EASY, grpo, tasks

from wan_r1.config import ConfigError
from wan_r1.train_grpo.judging import fit_judge_on_policy
from wan_r1.train_grpo.replay import Replay
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.stage import updates, why_unchanged
from wan_r1.training.views import view_of
from wan_r1.verification import verify
from wan_r1.video_model.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.transformer.state_dict().items()}


def test_successes_are_kept_one_a_level_and_drawn_with_their_own_condition(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2, reward=EASY, iterations=3)
    trainer.run()
    replay, prompts = trainer.replay, trainer.prompts
    assert len(replay) == len(set(replay.videos)) > 2
    latents, condition = replay.draw(20, prompts, torch.Generator().manual_seed(0))
    for video, first, embeds in zip(latents, condition.first_latent, condition.prompt_embeds, strict=True):
        (level,) = [index for index, kept in replay.videos.items() if torch.equal(kept[0], video)]
        expected = prompts.condition(torch.tensor([level]))
        assert torch.equal(first, expected.first_latent[0]) and torch.equal(embeds, expected.prompt_embeds[0])


def test_demonstrations_are_learned_from_where_no_group_is_mixed(folder, tmp_path):
    settings = {"objective": "forward_grpo", "demonstration_batch": 3, "minibatches": 2, "least_std": 10.0}
    trainer = grpo(folder, tmp_path, **settings)
    trainer.prompts.demonstrations = trainer.model.encode_videos(
        np.stack([task.video for task in trainer.prompts.tasks[: trainer.prompts.demonstrated]])
    )
    before = _weights(trainer)
    trainer.run()
    assert all(entry["zero_std_groups"] == 1 and entry["loss"] > 0 for entry in trainer.state.log)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in _weights(trainer).items())


def _with_demonstrations(trainer, views=1):
    known = trainer.prompts.tasks[: trainer.prompts.demonstrated]
    harder = trainer.prompts.tasks[trainer.prompts.demonstrated :]
    trainer.prompts = Prompts.encode(trainer.model, known, harder, videos=True, views=views)
    return trainer


def test_a_warm_up_learns_from_demonstrations_before_anything_is_rolled_out(folder, tmp_path):
    settings = {"objective": "forward_grpo", "demonstration_batch": 3, "replay_batch": 2, "warmup_share": 0.75}
    settings |= {"iterations": 4, "checkpoint_every": 2, "length_balance": 0.5, "views": 2, "curriculum_floor": 0.5}
    whole = _with_demonstrations(grpo(folder, tmp_path / "whole", **settings), views=2)
    before = _weights(whole)
    whole.run()
    assert ["reward" in entry for entry in whole.state.log] == [False, False, False, True]
    assert all(entry["loss"] > 0 and entry["core_seconds"] > 0 for entry in whole.state.log)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in _weights(whole).items())
    # Stopped in the middle of the warm-up and gone on with, it ends the same, bit for bit.
    save = grpo(folder, tmp_path / "parts", **settings)
    _with_demonstrations(save, views=2)
    kept = save._save

    def stopping():
        uri = kept()
        raise KeyboardInterrupt(uri)

    save._save = stopping
    with pytest.raises(KeyboardInterrupt):
        save.run()
    rest = _with_demonstrations(grpo(folder, tmp_path / "parts", **settings), views=2)
    rest.run()
    assert rest.state.step == 4 and [entry["iteration"] for entry in rest.state.log] == [1, 2, 3, 4]
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(rest)[name]), name


def test_demonstrations_are_drawn_in_all_their_views_each_with_its_own_image(folder, tmp_path):
    trainer = _with_demonstrations(grpo(folder, tmp_path, objective="forward_grpo"), views=4)
    prompts = trainer.prompts
    assert len(prompts.demonstrations) == 4 * prompts.demonstrated
    latents, condition = prompts.draw_demonstrations(200, torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents[:, :, :1], condition.first_latent, atol=1e-4, rtol=0)
    drawn = {int((prompts.demonstrations - one).abs().flatten(1).amax(1).argmin()) for one in latents}
    assert len(drawn) > 0.9 * len(prompts.demonstrations)


def test_families_are_replayed_alike_and_rare_successes_more_often(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    regular = [index for index, task in enumerate(trainer.prompts.tasks) if task.family == "regular"]
    trapfield = [index for index, task in enumerate(trainer.prompts.tasks) if task.family == "trapfield"]
    kept = [*regular[:3], trapfield[0]]
    replay = Replay(
        videos={level: torch.full((1, 1), float(level)) for level in kept},
        rates=dict(zip(kept, (0.5, 1.0, 1.0, 1.0), strict=True)),
    )
    drawn, _ = replay.draw(8000, trainer.prompts, torch.Generator().manual_seed(0))
    shares = [float((drawn == level).float().mean()) for level in kept]
    # Weights 2/3, 1/3, 1/3 and 1.
    assert shares == pytest.approx([2 / 7, 1 / 7, 1 / 7, 3 / 7], abs=0.02)


def test_lengths_share_replays_and_demonstrations_as_evenly_as_they_are_balanced(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    prompts = trainer.prompts
    prompts.tasks = [replace(prompts.tasks[0], solution=prompts.tasks[0].solution[:2] * n) for n in (1, 1, 1, 1, 2)]
    prompts.demonstrated, prompts.demonstrations = 5, torch.arange(5.0).view(5, 1)
    replay = Replay(videos={k: torch.full((1, 1), float(k)) for k in range(5)}, rates=dict.fromkeys(range(5), 1.0))
    # Four short ones and a long one: as they are, by the square root of their number, and alike.
    for balance, wanted in ((0.0, 0.2), (0.5, 1 / 3), (1.0, 0.5)):
        drawn, _ = replay.draw(8000, prompts, torch.Generator().manual_seed(0), balance)
        assert float((drawn == 4).float().mean()) == pytest.approx(wanted, abs=0.02)
        prompts._balance = torch.zeros(0)
        drawn, _ = prompts.draw_demonstrations(8000, torch.Generator().manual_seed(0), balance)
        assert float((drawn == 4).float().mean()) == pytest.approx(wanted, abs=0.02)


def _transposed(level):
    """The grid level whose picture is the other one's with rows and columns exchanged."""
    swapped = {name: tuple(cell[::-1] for cell in getattr(level, name)) for name in ("blocked", "right_walls")}
    down = tuple(cell[::-1] for cell in level.down_walls)
    changes = {name: getattr(level, name)[::-1] for name in ("start", "goal", "offset")}
    changes |= {"rows": level.columns, "columns": level.rows}
    return replace(level, **changes, blocked=swapped["blocked"], right_walls=down, down_walls=swapped["right_walls"])


@pytest.mark.parametrize("family", ["regular", "trapfield"])
def test_a_view_of_a_solution_solves_the_level_that_it_shows(family):
    (task,) = [task for task in tasks("train", 2) if task.family == family]
    mirrored_turn = view_of(task.video, 7)
    np.testing.assert_array_equal(mirrored_turn, task.video.transpose(0, 2, 1, 3))
    level = _transposed(task.level)
    shown = replace(task, level=level, first_frame=mirrored_turn[0], solution=level.solve().path, video=None)
    shown = replace(shown, trajectory=task.trajectory[:, ::-1])
    (verdict, other) = verify(np.stack([mirrored_turn, task.video]), [shown, shown])
    assert verdict.em and not other.em
    # The eight are different pictures, and undone by turning back.
    views = [view_of(task.video, view) for view in range(8)]
    assert len({view.tobytes() for view in views}) == 8
    np.testing.assert_array_equal(np.rot90(views[3], 1, axes=(1, 2)), task.video)


def test_successes_are_remembered_by_several_views_with_images_of_their_own(folder, tmp_path):
    settings = {"objective": "forward_grpo", "replay_batch": 4, "reward": EASY, "iterations": 2, "views": 3}
    trainer = grpo(folder, tmp_path / "views", **settings)
    trainer.run()
    replay, model, prompts = trainer.replay, trainer.model, trainer.prompts
    assert all(len(video) == 3 for video in replay.videos.values())
    latents, condition = replay.draw(40, prompts, torch.Generator().manual_seed(0))
    kept = {index: prompts.tasks[index].first_frame for index in replay.videos}
    pictures = model.encode_videos(np.stack([view_of(f[None], v) for f in kept.values() for v in range(8)]))
    seen = {int((pictures - first).abs().flatten(1).amax(1).argmin()) % 8 for first in condition.first_latent}
    assert 0 in seen and len(seen) > 2
    torch.testing.assert_close(latents[:, :, :1], condition.first_latent, atol=1e-4, rtol=0)
    again = grpo(folder, tmp_path / "again", **settings)
    again.run()
    for level, video in replay.videos.items():
        torch.testing.assert_close(again.replay.videos[level], video)


def test_a_run_that_never_learned_says_why(folder, tmp_path):
    settings = {"objective": "forward_grpo", "iterations": 2}
    waits = grpo(folder, tmp_path / "waits", **settings, reward=EASY, replay_batch=2, replay_levels=50)
    waits.run()
    assert updates(waits.state.log) == 0
    expected = f"found on {len(waits.replay)} levels, and grpo_replay_levels=50 of them are waited for"
    assert expected in why_unchanged(waits.config, waits.state.log) and len(waits.replay) > 0
    equal = grpo(folder, tmp_path / "equal", **settings, least_std=10.0)
    equal.run()
    assert updates(equal.state.log) == 0 and "grpo_least_std=10.0" in why_unchanged(equal.config, equal.state.log)
    learns = grpo(folder, tmp_path / "learns", **settings, reward=EASY, least_std=0.0)
    learns.run()
    assert updates(learns.state.log) == 2


def test_a_judge_of_a_policy_that_solves_nothing_is_refused_with_a_remedy(folder, tmp_path):
    trainer = grpo(folder, tmp_path, reward="judge", judge_labels=64)
    with pytest.raises(ConfigError, match=r"grpo_reward=judge: of 8 videos .* 0 solve .*; start .* sft_steps"):
        fit_judge_on_policy(trainer.config, trainer.model, trainer.prompts)


def test_a_failure_is_not_replayed(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    trainer.run()
    assert max(entry["reward"] for entry in trainer.state.log) < 0.99, "the untrained policy solved a level"
    assert len(trainer.replay) == 0
