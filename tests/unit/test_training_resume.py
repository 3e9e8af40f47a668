"""Training that stops and goes on ends with the same weights, bit for bit; GRPO's ratio is 1 before an update."""

import numpy as np
import pytest
import torch

from wan_r1.progress import Progress
from wan_r1.rewards import RewardOutput
from wan_r1.storage import checkpoints
from wan_r1.tasks.dataset import make_task
from wan_r1.train_grpo.advantages import Advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.replay import Replay
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.training.state import TrainingDiverged
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline

EASY = f"{__name__}:half_are_good"


def half_are_good(inputs):
    """A reward that an untrained policy gets: 1 for every other video."""
    return RewardOutput(reward=(np.arange(len(inputs.tasks)) % 2).astype(np.float32), components={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def _model(folder):
    return load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=torch.device("cpu"))


def _tasks(split, count, difficulty="easy"):
    return [
        make_task(
            ("regular", "trapfield")[index % 2],
            difficulty,
            "plain",
            seed=0,
            split=split,
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index in range(count)
    ]


def _sft(folder, prefix, **changes):
    settings = {
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "lora_rank": 0,
        "validate_every": 4,
        "checkpoint_every": 3,
        "threads": 1,
    }
    model = _model(folder)
    return SftTrainer(
        config=TrainSftConfig(**(settings | changes)),
        model=model,
        demonstrations=Demonstrations.encode(model, _tasks("train", 8), Progress("test")),
        validation=_tasks("validation", 2),
        prefix=str(prefix),
    )


def _grpo(folder, prefix, **changes):
    settings = {
        "iterations": 4,
        "group_size": 3,
        "prompts_per_iteration": 2,
        "rollout_steps": 3,
        "sde_window": (0, 1),
        "lora_rank": 0,
        "checkpoint_every": 2,
        "validate_every": 3,
        "threads": 1,
    }
    model = _model(folder)
    return GrpoTrainer(
        config=TrainGrpoConfig(**(settings | changes)),
        model=model,
        prompts=Prompts.encode(model, _tasks("train", 4), _tasks("prompts", 4, "hard")),
        validation=_tasks("validation", 2),
        prefix=str(prefix),
    )


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
        (_sft, {}),
        (_sft, {"lora_rank": 2}),
        (_grpo, {"objective": "flow_grpo"}),
        (_grpo, {"objective": "forward_grpo"}),
        (_grpo, {"objective": "forward_grpo", "replay_batch": 2, "minibatches": 2, "reward": EASY}),
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


def test_a_finished_training_is_found_and_not_repeated(folder, tmp_path):
    first = _sft(folder, tmp_path)
    uri = first.run()
    again = _sft(folder, tmp_path)
    assert again.run() == uri and again.state.step == 6


def test_the_ratio_is_one_before_the_first_update(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, objective="flow_grpo", epochs=2, kl_beta=0.1, least_std=1e-6)
    trainer.run()
    firsts = [entry["ratio_first"] for entry in trainer.state.log if "ratio_first" in entry]
    assert firsts, "no group was mixed; nothing was tested"
    assert firsts == pytest.approx([1.0] * len(firsts), abs=1e-6)
    assert any(abs(entry["ratio_mean"] - 1) > 1e-7 for entry in trainer.state.log if "ratio_mean" in entry)


def test_a_loss_that_is_not_finite_names_step_levels_and_last_checkpoint(folder, tmp_path):
    trainer = _sft(folder, tmp_path)
    trainer.demonstrations.latents[:] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"step 1: loss nan.*levels [0-9a-f]{16}.*none.*sft_learning_rate"):
        trainer.run()


def test_a_compute_budget_replaces_steps(folder, tmp_path):
    trainer = _sft(folder, tmp_path, steps=1)
    trainer.compute_budget = 1.5
    trainer.run()
    assert trainer.state.step > 1 and trainer.state.core_seconds >= 1.5


def test_minibatches_deal_out_whole_groups_once_an_epoch(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, group_size=3, minibatches=2, epochs=2)
    mixed = np.array([True, False, True, True, True])
    advantages = Advantages(values=np.zeros((5, 3), np.float32), mixed=mixed)
    batches = [rows.tolist() for rows in trainer._minibatches(advantages, torch.Generator().manual_seed(0))]
    assert [len(rows) for rows in batches] == [6, 6, 6, 6]
    groups = [[0, 1, 2], [6, 7, 8], [9, 10, 11], [12, 13, 14]]
    for epoch in (batches[:2], batches[2:]):
        rows = [row for batch in epoch for row in batch]
        dealt = [rows[start : start + 3] for start in range(0, 12, 3)]
        assert sorted(dealt) == groups


def test_successes_are_kept_one_a_level_and_drawn_with_their_own_condition(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2, reward=EASY, iterations=3)
    trainer.run()
    replay, prompts = trainer.replay, trainer.prompts
    assert len(replay) == len(set(replay.videos)) > 2
    latents, condition = replay.draw(20, prompts, torch.Generator().manual_seed(0))
    for video, first, embeds in zip(latents, condition.first_latent, condition.prompt_embeds, strict=True):
        (level,) = [index for index, kept in replay.videos.items() if torch.equal(kept, video)]
        assert torch.equal(first, prompts.first_latents[level]) and torch.equal(embeds, prompts.prompt_embeds[level])


def test_demonstrations_are_learned_from_where_no_group_is_mixed(folder, tmp_path):
    settings = {"objective": "forward_grpo", "demonstration_batch": 3, "minibatches": 2, "least_std": 10.0}
    trainer = _grpo(folder, tmp_path, **settings)
    trainer.prompts.demonstrations = trainer.model.encode_videos(
        np.stack([task.video for task in trainer.prompts.tasks[: trainer.prompts.demonstrated]])
    )
    before = _weights(trainer)
    trainer.run()
    assert all(entry["zero_std_groups"] == 1 and entry["loss"] > 0 for entry in trainer.state.log)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in _weights(trainer).items())


def test_families_are_replayed_alike_and_rare_successes_more_often(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    regular = [index for index, task in enumerate(trainer.prompts.tasks) if task.family == "regular"]
    trapfield = [index for index, task in enumerate(trainer.prompts.tasks) if task.family == "trapfield"]
    kept = [*regular[:3], trapfield[0]]
    replay = Replay(
        videos={level: torch.full((1,), float(level)) for level in kept},
        rates=dict(zip(kept, (0.5, 1.0, 1.0, 1.0), strict=True)),
    )
    drawn, _ = replay.draw(8000, trainer.prompts, torch.Generator().manual_seed(0))
    shares = [float((drawn == level).float().mean()) for level in kept]
    # Weights 2/3, 1/3, 1/3 and 1.
    assert shares == pytest.approx([2 / 7, 1 / 7, 1 / 7, 3 / 7], abs=0.02)


def test_a_failure_is_not_replayed(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, objective="forward_grpo", replay_batch=2)
    trainer.run()
    assert max(entry["reward"] for entry in trainer.state.log) < 0.99, "the untrained policy solved a level"
    assert len(trainer.replay) == 0


def test_harder_prompts_take_their_share(folder, tmp_path):
    trainer = _grpo(folder, tmp_path, harder_share=0.5, prompts_per_iteration=4)

    chosen = trainer.prompts.draw(4, 0.5, np.random.default_rng(0))
    assert sum(trainer.prompts.tasks[index].split == "prompts" for index in chosen) == 2
    assert len(set(chosen.tolist())) == 4
