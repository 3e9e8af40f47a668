"""A multimodal model as judge of videos (the class of Qwen2.5-VL), by name: prompt, call and parser in one file.

The paper trains against such a judge and finds that it rewards confident walks along wrong paths; so its agreement with
verified exact match is logged beside every score, and nothing it says enters verified facts.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from wan_r1.rewards.interface import RewardError, RewardInputs, RewardOutput

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task

SHOWN_FRAMES = 8
"""Frames of a video that the judge sees, spread evenly, first and last included."""
MOST_TOKENS = 48
SMALLEST_SIDE = 112
"""Frames are enlarged to at least this many pixels a side: a 32 px picture is less than two patches of the model."""

PROMPT = """These {count} pictures are frames of one video, in order. The video should show this: {task}
Judge whether it does. It solves the puzzle only if there is one player all the way, it moves along free cells without \
jumps, it breaks no rule, walls and goal stay as they are in the first picture, and in the last picture the player \
rests on the goal.
Answer with one line: Score: X, where X is a number from 0 (not solved) to 1 (solved without a fault)."""

_SCORE = re.compile(r"score\s*(?:is|[:=])?\s*\**\s*(\d+(?:\.\d+)?|\.\d+)\s*(%|/\s*(\d+(?:\.\d+)?))?", re.IGNORECASE)


def parse_score(answer: str) -> float | None:
    """The score in a judge's answer, 0 to 1; `None` if it gives none.

    ``Score: 0.7``, ``score = 7/10`` and ``Score: 70 %`` are all 0.7; the last score of the answer counts, since models
    repeat the question first. A plain number above 1 is no score.
    """
    found = _SCORE.findall(answer)
    if not found:
        return None
    number, scale, of = found[-1]
    largest = 100.0 if scale == "%" else float(of) if of else 1.0
    value = float(number) / largest if largest > 0 else -1.0
    return value if 0 <= value <= 1 else None


def shown_frames(video: np.ndarray) -> np.ndarray:
    """The frames that the judge sees, enlarged by whole numbers to at least `SMALLEST_SIDE` pixels a side."""
    at = np.unique(np.linspace(0, len(video) - 1, min(SHOWN_FRAMES, len(video))).round().astype(int))
    times = max(1, -(-SMALLEST_SIDE // min(video.shape[1:3])))
    return video[at].repeat(times, axis=1).repeat(times, axis=2)


class MultimodalJudge:
    """A judge of the class of Qwen2.5-VL, whose text holds one token a patch of each picture.

    Inputs are put together here from tokenizer and image processor: the joint processor wants torchvision for videos,
    which these pictures do not need.

    Args:
        model: generates text from pictures and text; its config names the token of pictures.
        tokenizer: must have a chat template that knows pictures.
        image_processor: cuts pictures into patches.
    """

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._images = image_processor

    def inputs(self, video: np.ndarray, task: Task) -> dict[str, Any]:
        """What the model is given for a video ``[F, H, W, 3]`` uint8."""
        import torch
        from PIL import Image

        pictures = [Image.fromarray(frame) for frame in shown_frames(video)]
        text = PROMPT.format(count=len(pictures), task=task.prompt)
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
        words = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        found = dict(self._images(images=pictures, return_tensors="pt"))
        patches = found["image_grid_thw"].prod(1) // self._images.merge_size**2
        picture = self._model.config.image_token_id
        tokens: list[int] = []
        counts = iter(patches.tolist())
        for token in self._tokenizer(words)["input_ids"]:
            tokens += [picture] * next(counts) if token == picture else [token]
        found["input_ids"] = torch.tensor([tokens])
        found["attention_mask"] = torch.ones_like(found["input_ids"])
        # From transformers 5 on, models tell pictures from text by this; earlier ones do not know it.
        if "mm_token_type_ids" in inspect.signature(self._model.forward).parameters:
            found["mm_token_type_ids"] = (found["input_ids"] == picture).int()
        return {name: value.to(self._model.device) for name, value in found.items()}

    def answer(self, video: np.ndarray, task: Task) -> str:
        """What the judge says of a video, by greedy decoding."""
        import torch

        inputs = self.inputs(video, task)
        with torch.no_grad():
            tokens = self._model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)
        new = tokens[0, inputs["input_ids"].shape[1] :]
        return str(self._tokenizer.decode(new, skip_special_tokens=True))


def load_judge(name: str) -> MultimodalJudge:
    """A judge from the hub or a folder, on the GPU if there is one.

    Raises:
        RewardError: if transformers cannot load it.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto").to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(name)
        return MultimodalJudge(model, tokenizer, AutoImageProcessor.from_pretrained(name, use_fast=False))
    except (OSError, ValueError) as error:
        raise RewardError(
            f"reward='judge:{name}': the judge cannot be loaded ({str(error).splitlines()[0]}); give a folder or a hub "
            "id of a model of the class of Qwen2.5-VL, such as Qwen/Qwen2.5-VL-7B-Instruct"
        ) from None


class MultimodalReward:
    """The score of a multimodal judge as a reward; an answer without a score gets 0 and is counted.

    Args:
        name: hub id or folder of the judge; loaded at the first use.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def _judge(self) -> MultimodalJudge:
        return load_judge(self.name)

    def __call__(self, inputs: RewardInputs) -> RewardOutput:
        """Rewards of a batch; an unreadable video is not shown to the judge."""
        count = len(inputs.videos)
        score, unparsed = np.zeros(count, np.float32), np.zeros(count, np.float32)
        for i, (video, task, verdict) in enumerate(zip(inputs.videos, inputs.tasks, inputs.verdicts, strict=True)):
            if verdict.error is not None:
                continue
            found = parse_score(self._judge.answer(video, task))
            unparsed[i] = found is None
            score[i] = 0.0 if found is None else found
        solved = np.array([verdict.error is None and verdict.em for verdict in inputs.verdicts], bool)
        agrees = ((score >= 0.5) == solved).astype(np.float32)
        parts = {"judge": score, "judge_agrees": agrees, "judge_unparsed": unparsed}
        return RewardOutput(reward=score, components=parts)


@functools.lru_cache(maxsize=2)
def multimodal_reward(name: str) -> MultimodalReward:
    """The reward of the judge with this name; the same object for the same name, so that it is loaded once."""
    return MultimodalReward(name)
