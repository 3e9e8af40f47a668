"""Rewards that ask a model of transformers: embedding similarity and a multimodal judge, with tiny real models."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import grpo

from wan_r1.compare_rewards.stage import build_rows
from wan_r1.reports.logs import read_log
from wan_r1.rewards import RewardError, RewardInputs, get_reward
from wan_r1.rewards.embedding import EmbeddingReward, embedding_parts, reference_video
from wan_r1.rewards.multimodal_judge import PROMPT, MultimodalReward, parse_score, shown_frames
from wan_r1.tasks.dataset import make_task
from wan_r1.training.report import write_log
from wan_r1.verification import Verdict, verify
from wan_r1.video_model.tiny import tiny_pipeline

FORM = {"frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0}


def tasks(count: int = 3, split: str = "test"):
    return [make_task("regular", "medium", "plain", seed=4, split=split, index=i, **FORM) for i in range(count)]


def circle(angles) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_the_reference_itself_is_perfect():
    own = circle(np.linspace(0, 1, 9))
    assert embedding_parts(own, own) == pytest.approx({"cos": 1, "temp": 1, "end": 1, "emb": 1})
    assert embedding_parts(5 * own, own)["emb"] == pytest.approx(1), "only directions count"


def test_parts_against_closed_forms():
    angles = np.linspace(0, 1, 9)
    turned = embedding_parts(circle(angles + 0.5), circle(angles))
    assert turned["cos"] == turned["end"] == pytest.approx(np.cos(0.5)) and turned["temp"] == pytest.approx(1)
    # Backwards: the displacement is covered at the same rate, both ends are the other's.
    back = embedding_parts(circle(angles[::-1]), circle(angles))
    assert back["end"] == pytest.approx(np.cos(1)) and back["temp"] == pytest.approx(1)
    # All of the way in the first step: c is 1 from frame 1 on, the reference's k / 8.
    at_once = embedding_parts(circle([0, *[1] * 8]), circle(angles))
    assert at_once["temp"] == pytest.approx(1 - np.mean([0, *(1 - np.arange(1, 9) / 8)]))
    still = embedding_parts(circle(np.zeros(9)), circle(angles))
    assert still["temp"] == pytest.approx(1 - np.mean(np.arange(9) / 8))
    weighted = 0.5 * still["cos"] + 0.2 * still["temp"] + 0.3 * still["end"]
    assert still["emb"] == pytest.approx(weighted)


def test_sequences_of_two_lengths_are_compared_at_the_longer_one():
    long, short = circle(np.linspace(0, 0.2, 17)), circle(np.linspace(0, 0.2, 9))
    assert embedding_parts(short, long)["emb"] == pytest.approx(1, abs=1e-4)
    assert embedding_parts(long, short)["emb"] == pytest.approx(1, abs=1e-4)


def test_levels_without_video_are_drawn_again():
    (task,) = tasks(1)
    assert np.array_equal(reference_video(replace(task, video=None)), task.video)


class Counting:
    """Mean colours of quarters as embeddings; counts the videos it is asked for."""

    def __init__(self) -> None:
        self.videos = 0

    def encode(self, videos: np.ndarray) -> np.ndarray:
        self.videos += len(videos)
        n, frames = videos.shape[:2]
        return videos.reshape(n, frames, 2, 16, 2, 16, 3).mean((3, 5)).reshape(n, frames, -1).astype(np.float32)


def test_references_are_embedded_once():
    encoder, levels = Counting(), tasks(2)
    reward = EmbeddingReward(encoder)
    batch = [levels[0], levels[0], levels[1]]
    videos = np.stack([task.video for task in batch])
    inputs = RewardInputs(videos=videos, tasks=batch, verdicts=verify(videos, batch))
    first = reward(inputs)
    assert encoder.videos == 3 + 2
    assert np.allclose(reward(inputs).reward, first.reward) and encoder.videos == 5 + 3
    assert np.allclose(first.reward, 1, atol=1e-5)
    assert first.components["embedding_agrees"].tolist() == [1, 1, 1]


def test_a_tiny_dinov2_from_a_folder(tmp_path: Path):
    """The real classes: saved, loaded by name through the catalogue, frozen and deterministic."""
    from transformers import BitImageProcessor

    from wan_r1.rewards.encoders import tiny_dinov2

    tiny_dinov2(0).save_pretrained(tmp_path)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    levels = tasks(3)
    videos = np.stack([levels[0].video, levels[1].video[:1].repeat(9, 0), levels[2].video[::-1]])
    verdicts = verify(videos, levels)
    verdicts[2] = Verdict(error="cannot be read")
    output = get_reward(f"embedding:{tmp_path}")(RewardInputs(videos=videos, tasks=levels, verdicts=verdicts))
    assert output.reward[0] == pytest.approx(1, abs=1e-4) and output.reward[1] < 0.999 and output.reward[2] == 0
    assert set(output.components) == {f"embedding_{name}" for name in ("cos", "temp", "end", "agrees")}
    covered = _mean_share(tmp_path, levels[1])
    assert output.components["embedding_temp"][1] == pytest.approx(1 - covered, abs=1e-3)


def test_the_encoder_that_ships_is_the_one_that_was_trained_and_tells_ways_apart():
    """Its weights are those of `training.json`; a disturbed solution is nearer to the reference than other videos."""
    from wan_r1.rewards.encoders import TINY_FOLDER

    weights = (TINY_FOLDER / "model.safetensors").read_bytes()
    made = json.loads((TINY_FOLDER / "training.json").read_text())
    assert len(weights) < 1_000_000 and hashlib.sha256(weights).hexdigest() == made["sha256"]
    levels = tasks(6)
    noise = np.random.default_rng(0).normal(0, 8, (6, 9, 32, 32, 3))
    kinds = {
        "solution": np.stack([task.video for task in levels]),
        "still": np.stack([task.video[:1].repeat(9, 0) for task in levels]),
        "backwards": np.stack([task.video[::-1] for task in levels]),
    }
    reward, found = get_reward("embedding:tiny"), {}
    for kind, videos in kinds.items():
        noisy = np.clip(0.9 * videos + noise, 0, 255).round().astype(np.uint8)
        found[kind] = reward(RewardInputs(videos=noisy, tasks=levels, verdicts=[Verdict()] * 6)).reward
    assert found["solution"].min() > max(found["still"].max(), found["backwards"].max())


def _mean_share(folder: Path, task) -> float:
    """Mean share of the reference's displacement, which a still video never covers."""
    from wan_r1.rewards.encoders import load_encoder

    found = load_encoder(str(folder)).encode(task.video[None])[0].astype(float)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    steps = np.linalg.norm(np.diff(found, axis=0), axis=1)
    return float(np.mean([0, *np.cumsum(steps) / steps.sum()]))


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Score: 0.7", 0.7),
        ("score = 7/10", 0.7),
        ("**Score:** 70 %", 0.7),
        ("The score is 1", 1.0),
        ("Score: X, where X is a number from 0 to 1.\nScore: .25", 0.25),
        ("Score: 0.9. On reflection, Score: 0.1", 0.1),
        ("Score: 7", None),
        ("Score: 11/10", None),
        ("Score: 3/0", None),
        ("It is solved.", None),
        ("", None),
    ],
)
def test_answers_are_parsed(answer, score):
    found = parse_score(answer)
    assert found == (None if score is None else pytest.approx(score))


def test_the_prompt_states_the_scale_and_frames_are_large_enough():
    assert "Score: X" in PROMPT and parse_score(PROMPT) is None
    shown = shown_frames(np.zeros((81, 32, 32, 3), np.uint8))
    assert shown.shape == (8, 128, 128, 3)
    assert shown_frames(np.zeros((5, 512, 512, 3), np.uint8)).shape == (5, 512, 512, 3)


@pytest.fixture(scope="module")
def tiny_judge(tmp_path_factory) -> Path:
    """A folder with a random Qwen2.5-VL of a few thousand weights, its tokenizer, processors and chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
    )
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    special = ["<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token=special[0],
        pad_token=special[0],
        extra_special_tokens={"image_token": special[3], "video_token": special[4]},
    )
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
            "eos_token_id": ids[special[0]],
            "pad_token_id": ids[special[0]],
            "bos_token_id": ids[special[0]],
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    folder = tmp_path_factory.mktemp("judge")
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return folder


def test_a_multimodal_judge_from_a_folder(tiny_judge: Path):
    """A random one says nothing that can be parsed: it gets 0, which is counted, and agreement stays beside it."""
    levels = tasks(2)
    videos = np.stack([task.video for task in levels])
    verdicts = [verify(videos[:1], levels[:1])[0], Verdict(error="cannot be read")]
    output = get_reward(f"judge:{tiny_judge}")(RewardInputs(videos=videos, tasks=levels, verdicts=verdicts))
    assert set(output.components) == {"judge", "judge_agrees", "judge_unparsed"}
    assert output.reward.tolist() == [0, 0] and output.components["judge_unparsed"].tolist() == [1, 0]
    assert output.components["judge_agrees"].tolist() == [0, 1]


def test_a_multimodal_judge_s_agreement_comes_into_the_comparison(tiny_judge: Path, tmp_path: Path):
    """Training by a judge with a name logs how often it is right, and the comparison shows it beside the arm."""
    tiny_pipeline(seed=0).save_pretrained(tmp_path / "model")
    reward = f"judge:{tiny_judge}"
    trainer = grpo(tmp_path / "model", tmp_path / "state", iterations=2, reward=reward)
    trainer.run()
    for entry in trainer.state.log:
        # No answer of a random judge can be parsed, so that it is right where the policy solves nothing.
        assert entry["judge_agreement"] == entry["reward_judge_agrees"] == pytest.approx(1 - entry["em"])
    write_log(trainer.state.log, tmp_path / "log.parquet")
    result = {"split": "test", "family": "regular", "n": 4, "em": 0.0, "pr": 0.0, "mf": 1.0, "reward": 0.0}
    evaluation = {"model": "grpo", "training_reward": reward, "rows": [{**result, "em_low": 0.0, "em_high": 0.5}]}
    (arm,) = build_rows([read_log(tmp_path / "log.parquet")], [evaluation], window=1)
    assert arm["reward"] == reward and arm["judge_agreement_last"] == trainer.state.log[-1]["judge_agreement"]


def test_the_judge_sees_frames_rules_and_answers_alike(tiny_judge: Path):
    judge = MultimodalReward(str(tiny_judge))._judge
    (task,) = tasks(1)
    assert judge.answer(task.video, task) == judge.answer(task.video, task)
    inputs = judge.inputs(task.video, task)
    assert json.loads((tiny_judge / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    pictures = (inputs["input_ids"] == judge._model.config.image_token_id).sum()
    # Eight pictures of 128 px, enlarged from 32, in patches of 28 px after merging: 5 a side, rounded.
    assert len(inputs["image_grid_thw"]) == 8 and pictures == inputs["image_grid_thw"].prod(1).sum() // 4
    assert task.prompt in judge._tokenizer.decode(inputs["input_ids"][0])


@pytest.mark.parametrize("name", ["embedding:/no/such/folder", "judge:/no/such/folder"])
def test_a_model_that_is_not_there_is_named(name):
    levels = tasks(1)
    videos = levels[0].video[None]
    inputs = RewardInputs(videos=videos, tasks=levels, verdicts=verify(videos, levels))
    with pytest.raises(RewardError, match=f"reward='{name}'.*such as"):
        get_reward(name)(inputs)
