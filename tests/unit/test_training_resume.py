"""Training that stops and goes on ends with the same weights, bit for bit; GRPO's ratio is 1 before an update."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import BRIGHT, EASY, grpo, sft

from wan_r1.storage import checkpoints
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.minibatches import minibatches
from wan_r1.training.eviction import Evicted
from wan_r1.training.state import TrainingDiverged, checkpoint_prefix
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.transformer.state_dict().items()}


def _stop_after(trainer, step):
    """Make the trainer stop as a killed process does: after a step, without saving."""
    save = trainer._save

    def saving(*arguments):
        uri = save(*arguments)
        if trainer.state.step >= step:
            raise KeyboardInterrupt
        return uri

    trainer._save = saving


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (sft, {}),
        (sft, {"lora_rank": 2}),
        (grpo, {"objective": "flow_grpo"}),
        (grpo, {"objective": "forward_grpo"}),
        (grpo, {"objective": "forward_grpo", "replay_batch": 2, "minibatches": 2, "reward": EASY}),
    ],
    ids=["sft", "sft-lora", "flow_grpo", "forward_grpo", "replay"],
)
def test_a_stopped_training_goes_on_bit_for_bit(folder, tmp_path, make, changes):
    whole = make(folder, tmp_path / "whole", **changes)
    whole.run()
    stopped = make(folder, tmp_path / "stopped", **changes)
    _stop_after(stopped, 2)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = make(folder, tmp_path / "stopped", **changes)
    uri = resumed.run()
    assert resumed.state.step == whole.state.step
    assert uri == checkpoints.latest(tmp_path / "stopped").uri
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name
    assert [entry["loss"] for entry in resumed.state.log if "loss" in entry] == [
        entry["loss"] for entry in whole.state.log if "loss" in entry
    ]


def _terminate_once_it_listens(delay, over):
    """SIGTERM to this process, `delay` seconds after a training has set its handler, unless it is `over` before."""
    while signal.getsignal(signal.SIGTERM) == signal.SIG_IGN and not over.wait(0.001):
        pass
    if not over.wait(delay):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (sft, {"validate_every": 1, "target_em": 0.9}),
        (grpo, {"objective": "flow_grpo", "curriculum_floor": 0.2, "reward": EASY}),
        (grpo, {"objective": "forward_grpo", "replay_batch": 2, "reward": EASY}),
    ],
    ids=["sft", "flow_grpo", "forward_grpo"],
)
def test_sigterm_at_any_moment_saves_first_and_the_rest_is_the_same_bit_for_bit(folder, tmp_path, make, changes):
    whole = make(folder, tmp_path / "whole", **changes)
    began = time.perf_counter()
    whole.run()
    seconds = time.perf_counter() - began
    ended, last = 0, -1
    # The first comes as soon as a training listens, however fast or slow the machine is.
    for delay in (0, *(seconds * np.random.default_rng(0).uniform(0, 0.5, 3))):
        stopped = make(folder, tmp_path / "stopped", **changes)
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        over = threading.Event()
        timer = threading.Thread(target=_terminate_once_it_listens, args=(delay, over))
        timer.start()
        try:
            stopped.run()
        except Evicted as error:
            ended += 1
            assert error.code == 143
            saved = checkpoints.latest(tmp_path / "stopped")
            # Before the first step there is nothing to save.
            assert (saved.step if saved else 0) == stopped.state.step > last - 1
            last = stopped.state.step
        over.set()
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert ended, "no SIGTERM met a training; nothing was tested"
    resumed = make(folder, tmp_path / "stopped", **changes)
    resumed.run()
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name
    timed = ("core_seconds", "seconds_")
    logs = [
        [{name: entry[name] for name in entry if not name.startswith(timed)} for entry in trainer.state.log]
        for trainer in (whole, resumed)
    ]
    assert logs[0] == logs[1]


def test_a_finished_training_is_found_and_not_repeated(folder, tmp_path):
    first = sft(folder, tmp_path)
    uri = first.run()
    again = sft(folder, tmp_path)
    assert again.run() == uri and again.state.step == 6


def test_the_ratio_is_one_before_the_first_update(folder, tmp_path):
    trainer = grpo(folder, tmp_path, objective="flow_grpo", epochs=2, kl_beta=0.1, least_std=1e-6)
    trainer.run()
    firsts = [entry["ratio_first"] for entry in trainer.state.log if "ratio_first" in entry]
    assert firsts, "no group was mixed; nothing was tested"
    assert firsts == pytest.approx([1.0] * len(firsts), abs=1e-6)
    assert any(abs(entry["ratio_mean"] - 1) > 1e-7 for entry in trainer.state.log if "ratio_mean" in entry)


def test_a_loss_that_is_not_finite_names_step_levels_and_last_checkpoint(folder, tmp_path):
    trainer = sft(folder, tmp_path)
    trainer.demonstrations.latents[:] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"step 1: loss nan.*levels [0-9a-f]{16}.*none.*sft_learning_rate"):
        trainer.run()


def test_a_training_finds_its_checkpoints_with_fewer_processes_but_not_with_other_settings():
    model = ModelReference(name="base", base_uri="s3://bucket/model")
    config = TrainGrpoConfig(prompts_per_iteration=8)
    prefix = checkpoint_prefix("s3://bucket", config, model, "data")
    fewer = replace(config, processes=2, nodes=2, threads=3)
    assert checkpoint_prefix("s3://bucket", fewer, model, "data") == prefix
    others = [
        checkpoint_prefix("s3://bucket", replace(config, seed=1), model, "data"),
        checkpoint_prefix("s3://bucket", config, model, "other"),
        checkpoint_prefix("s3://bucket", config, replace(model, checkpoint_uri="s3://bucket/sft"), "data"),
    ]
    assert len({prefix, *others}) == 4


def test_a_compute_budget_replaces_steps(folder, tmp_path):
    trainer = sft(folder, tmp_path, steps=1)
    trainer.compute_budget = 1.5
    trainer.run()
    assert trainer.state.step > 1 and trainer.state.core_seconds >= 1.5


class _Two:
    """The second of two processes."""

    count, rank = 2, 1

    def owns(self, places):
        return places % 2 == 1


class _One:
    """The only process."""

    count, rank = 1, 0

    def owns(self, places):
        return torch.ones_like(places, dtype=torch.bool)


def _dealt(config, rewards, processes, **more):
    advantages = group_advantages(rewards, 5.0, 1e-6, **more)
    generator = torch.Generator().manual_seed(0)
    return list(minibatches(config, advantages, processes, generator=generator, device=torch.device("cpu")))


def _rewards():
    rewards = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    rewards[1] = 0.5
    return rewards


def test_minibatches_deal_out_whole_groups_once_an_epoch():
    config = TrainGrpoConfig(group_size=4, minibatches=2, epochs=2)
    dealt = _dealt(config, _rewards(), _One())
    assert [len(batch.rows) for batch in dealt] == [8, 8, 8, 8] == [batch.total for batch in dealt]
    for epoch in (dealt[:2], dealt[2:]):
        rows = [row for batch in epoch for row in batch.rows.tolist()]
        groups = [rows[start : start + 4] for start in range(0, 16, 4)]
        assert sorted(groups) == [[4 * group + video for video in range(4)] for group in (0, 2, 3, 4)]
    values = group_advantages(_rewards(), 5.0, 1e-6).values.reshape(-1)
    for batch in dealt:
        np.testing.assert_array_equal(batch.advantages.numpy(), values[batch.rows.numpy()])


def test_two_processes_take_the_same_steps_each_on_its_own_groups():
    config = TrainGrpoConfig(group_size=4, minibatches=2)
    whole, mine = (_dealt(config, _rewards(), processes) for processes in (_One(), _Two()))
    assert [batch.total for batch in mine] == [8, 8]
    for all_of_it, part in zip(whole, mine, strict=True):
        rows = all_of_it.rows[part.places]
        # Groups 1 and 3 of five are the second process's 0 and 1.
        assert (rows // 4 % 2 == 1).all() and len(rows) == 4 * int((all_of_it.rows[::4] // 4 % 2 == 1).sum())
        torch.testing.assert_close(part.rows, rows // 4 // 2 * 4 + rows % 4)
        torch.testing.assert_close(part.advantages, all_of_it.advantages[part.places])


def test_the_best_and_the_worst_of_each_group_are_learned_from():
    rewards = _rewards()
    config = TrainGrpoConfig(group_size=4, best_and_worst=2)
    (batch,) = _dealt(config, rewards, _One(), best_and_worst=2)
    found = sorted(zip((batch.rows // 4).tolist(), (batch.rows % 4).tolist(), strict=True))
    assert found == sorted(
        (group, int(place)) for group in (0, 2, 3, 4) for place in (rewards[group].argmin(), rewards[group].argmax())
    )


def test_harder_prompts_take_their_share(folder, tmp_path):
    trainer = grpo(folder, tmp_path, harder_share=0.5, prompts_per_iteration=4)

    chosen = trainer.prompts.draw(4, 0.5, np.random.default_rng(0))
    assert sum(trainer.prompts.tasks[index].split == "prompts" for index in chosen) == 2
    assert len(set(chosen.tolist())) == 4


@pytest.mark.parametrize("objective", ["flow_grpo", "forward_grpo"])
def test_micro_batches_and_a_reward_pool_change_nothing_but_rounding(folder, tmp_path, objective):
    settings = {"objective": objective, "iterations": 1, "kl_beta": 0.1, "reward": BRIGHT, "least_std": 1e-7}
    settings |= {"learning_rate": 1e-4}
    if objective == "forward_grpo":
        settings |= {"replay_batch": 3}
    whole = grpo(folder, tmp_path / "whole", **settings)
    whole.run()
    parts = grpo(folder, tmp_path / "parts", micro_batch=4, reward_workers=1, **settings)
    parts.run()
    assert whole.state.log[0]["grad_norm"] > 1e-4
    for name, tensor in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], tensor, atol=1e-6, rtol=0, msg=name)


def test_groups_may_differ_in_their_stochastic_step_and_share_their_first_noise(folder, tmp_path):
    settings = {"objective": "flow_grpo", "sde_window_moves": "random", "shared_noise": True, "iterations": 1}
    trainer = grpo(folder, tmp_path, prompts_per_iteration=4, reward=BRIGHT, least_std=1e-7, **settings)
    kept = []
    learn = trainer.learn
    trainer.learn = lambda rollout, generator, stitched: kept.append(rollout) or learn(rollout, generator)
    trainer.run()
    (rollout,) = kept
    assert rollout.stochastic_steps == 1 and len(rollout.transitions) == 2, "seed 0 draws both steps"
    taken = torch.full((12,), -1)
    for transition in rollout.transitions:
        taken[transition.rows] = transition.index
    by_group = taken.view(4, 3)
    assert (by_group == by_group[:, :1]).all() and set(taken.tolist()) == {0, 1}
    first = rollout.transitions[0]
    groups = first.x.view(-1, 3, *first.x.shape[1:])
    assert torch.equal(groups[:, 0], groups[:, 1]), "the videos of a group start from the same noise"
    assert not torch.equal(first.sample[0], first.sample[1])
    assert trainer.state.log[0]["ratio_first"] == pytest.approx(1, abs=1e-6)


def test_training_stops_where_fidelity_is_lost_or_the_policy_is_far(folder, tmp_path):
    lost = grpo(folder, tmp_path / "lost", stop_fidelity=0.9999, validate_every=1)
    uri = lost.run()
    assert lost.state.step == 1 and "grpo_stop_fidelity" in lost.stopped and uri.endswith("00000001")
    settings = {"objective": "flow_grpo", "kl_beta": 0.1, "stop_kl": 1e-12, "reward": BRIGHT, "least_std": 1e-7}
    far = grpo(folder, tmp_path / "far", epochs=3, learning_rate=1e-3, **settings)
    far.run()
    assert far.state.step == 1 and "grpo_stop_kl" in far.stopped
