"""The tiny pipeline folder in stock diffusers: it loads there, and its Euler sampling gives our video."""

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline

from wan_r1.tasks.dataset import make_task
from wan_r1.video_model.folder import ModelFolderError, check_pipeline_folder
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.lora import LORA_FILE, ensure_lora, load_lora, lora_bytes
from wan_r1.video_model.sampling import ode_sample
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.weights import trainable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=3).save_pretrained(path)
    return path


@pytest.fixture
def model(folder):
    return load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=torch.device("cpu"))


def _task(index=0):
    return make_task(
        "regular", "easy", "plain", seed=0, split="test", index=index, frames=9, size=32, canvas=4, steps_per_frame=1.0
    )


def test_stock_sampling_from_the_same_noise_gives_our_video(folder, model):
    task = _task()
    stock = WanImageToVideoPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    noise = model.initial_noise([7], 9, 32, 32)
    expected = stock(
        image=torch.from_numpy(task.first_frame).permute(2, 0, 1)[None].float() / 255,
        prompt=task.prompt,
        height=32,
        width=32,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=1.0,
        latents=noise,
        max_sequence_length=PROMPT_TOKENS,
        output_type="latent",
    ).frames
    stock.scheduler.set_timesteps(4)
    condition = model.condition(task.first_frame[None], [task.prompt])
    ours = ode_sample(model, noise, condition, stock.scheduler.sigmas)
    assert (ours - expected).abs().max() <= 1e-3


def test_a_video_does_not_depend_on_its_batch(model):
    tasks = [_task(index) for index in range(3)]
    first = np.stack([task.first_frame for task in tasks])
    prompts = [task.prompt for task in tasks]
    together = model.sample(first, prompts, frames=9, steps=2, seeds=[1, 2, 3])
    alone = model.sample(first[1:2], prompts[1:2], frames=9, steps=2, seeds=[2])
    assert together.shape == (3, 9, 32, 32, 3) and together.dtype == np.uint8
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1


def test_the_first_latent_frame_stays_the_given_image(model):
    task = _task()
    condition = model.condition(task.first_frame[None], [task.prompt])
    noise = model.initial_noise([0], 9, 32, 32)
    assert not model.velocity(noise, 0.7, condition)[:, :, 0].any()
    latents = ode_sample(model, noise, condition, torch.tensor([1.0, 0.5, 0.0]))
    assert torch.equal(latents[:, :, :1], condition.first_latent)


def test_the_codec_keeps_a_reference_video(model):
    task = _task()
    decoded = model.decode(model.encode_videos(task.video[None]))[0]
    error = np.abs(decoded.astype(int) - task.video).mean()
    assert error < 6, f"mean absolute error {error:.1f} of 255"


def test_lora_starts_at_zero_trains_alone_and_loads_in_stock_diffusers(folder, model, tmp_path):
    task = _task()
    condition = model.condition(task.first_frame[None], [task.prompt])
    noise = model.initial_noise([0], 9, 32, 32)
    with torch.no_grad():
        before = model.velocity(noise, 0.7, condition)
        ensure_lora(model.transformer, rank=4, alpha=8.0, seed=0)
        torch.testing.assert_close(model.velocity(noise, 0.7, condition), before)
    names = trainable(model.transformer)
    assert names and all("lora_" in name for name in names)
    with torch.no_grad():
        for index, parameter in enumerate(names.values()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        changed = model.velocity(noise, 0.7, condition)
    assert (changed - before).abs().max() > 1e-3
    (tmp_path / LORA_FILE).write_bytes(lora_bytes(model.transformer, 4, 8.0))

    fresh = load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=torch.device("cpu"))
    load_lora(fresh.transformer, tmp_path / LORA_FILE)
    with torch.no_grad():
        torch.testing.assert_close(fresh.velocity(noise, 0.7, condition), changed)

    stock = WanImageToVideoPipeline.from_pretrained(folder)
    stock.load_lora_weights(tmp_path, weight_name=LORA_FILE)
    fresh.transformer = stock.transformer
    with torch.no_grad():
        torch.testing.assert_close(fresh.velocity(noise, 0.7, condition), changed, atol=1e-4, rtol=1e-4)


def test_another_rank_than_the_checkpoints_is_refused(model):
    ensure_lora(model.transformer, rank=4, alpha=8.0, seed=0)
    with pytest.raises(ValueError, match=r"lora_rank=8.*rank 4"):
        ensure_lora(model.transformer, rank=8, alpha=8.0, seed=0)


def test_a_folder_that_is_no_pipeline_is_named_with_what_is_missing(tmp_path, folder):
    with pytest.raises(ModelFolderError, match=r"has no model_index.json; expected a diffusers folder"):
        check_pipeline_folder(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ModelFolderError, match="is a StableDiffusionPipeline"):
        check_pipeline_folder(tmp_path)
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(ModelFolderError, match="lacks transformer, vae"):
        check_pipeline_folder(tmp_path)
