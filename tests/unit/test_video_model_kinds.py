"""Wan2.1-I2V and Wan2.2-A14B at a tiny size: sampling equals stock diffusers', training and LoRA reach every expert."""

import json

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image
from wan_models import concatenating_pipeline, experts_pipeline

from wan_r1.prepare_model import PrepareModelConfig
from wan_r1.prepare_model import run as prepare_model
from wan_r1.progress import Progress
from wan_r1.rewards import RewardOutput
from wan_r1.storage import checkpoints, locations
from wan_r1.tasks.dataset import make_task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.video_model.folder import ModelFolderError, check_pipeline_folder
from wan_r1.video_model.given import KEPT, UnknownImageError
from wan_r1.video_model.loading import apply_weights, load_pipeline_folder, load_video_model, weight_files
from wan_r1.video_model.lora import ensure_lora, lora_file
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.sampling import ode_sample
from wan_r1.video_model.tiny import PROMPT_TOKENS
from wan_r1.video_model.weights import trainable

KINDS = ("concatenation", "image_tokens", "experts")
TOKENS = {"concatenation": PROMPT_TOKENS, "image_tokens": 512, "experts": PROMPT_TOKENS}
CPU = torch.device("cpu")
EASY = f"{__name__}:half_are_good"


def half_are_good(inputs):
    """A reward that an untrained policy gets: 1 for every other video."""
    return RewardOutput(reward=(np.arange(len(inputs.tasks)) % 2).astype(np.float32), components={})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("models")
    concatenating_pipeline(3).save_pretrained(place / "concatenation")
    concatenating_pipeline(3, image_encoder=True).save_pretrained(place / "image_tokens")
    experts_pipeline(3).save_pretrained(place / "experts")
    return place


def _model(folders, kind):
    return load_pipeline_folder(folders / kind, max_prompt_tokens=TOKENS[kind], device=CPU)


def _task(index=0, split="test", difficulty="easy"):
    return make_task(
        "regular",
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


def _stock_latents(pipeline, task, noise, tokens):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        image=Image.fromarray(task.first_frame),
        prompt=task.prompt,
        height=32,
        width=32,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=1.0,
        latents=noise,
        max_sequence_length=tokens,
        output_type="latent",
    ).frames


@pytest.mark.parametrize("kind", KINDS)
def test_stock_sampling_from_the_same_noise_gives_our_video(folders, kind):
    model, task = _model(folders, kind), _task()
    noise = model.initial_noise([7], 9, 32, 32)
    stock = WanImageToVideoPipeline.from_pretrained(folders / kind)
    expected = _stock_latents(stock, task, noise, TOKENS[kind])
    condition = model.condition(task.first_frame[None], [task.prompt])
    # The pipeline leaves its scheduler with the levels it went through, which are not quite ours.
    grid = stock.scheduler.sigmas
    ours = ode_sample(model, noise, condition, grid)
    assert (ours - expected).abs().max() <= 1e-3
    # The image matters: another one gives other latents.
    other = model.condition(_task(1).first_frame[None], [task.prompt])
    assert (ode_sample(model, noise, other, grid) - ours).abs().max() > 0.01


def test_all_latent_frames_are_generated(folders):
    model = _model(folders, "concatenation")
    condition = model.condition(_task().first_frame[None], [_task().prompt])
    noise = model.initial_noise([0], 9, 32, 32)
    assert torch.equal(model.mask(noise), torch.ones(1, 1, 3, 1, 1))
    with torch.no_grad():
        assert model.velocity(noise, 0.7, condition)[:, :, 0].any()


def test_images_are_encoded_once_and_an_unknown_one_is_refused(folders):
    model = _model(folders, "image_tokens")
    conditions = model.condition(np.stack([_task(0).first_frame, _task(1).first_frame]), ["a", "b"])
    both = model.given.of(conditions.first_latent, 3)
    assert both.channels.shape == (2, 8, 3, 8, 8) and both.tokens.shape[0] == 2
    assert both.channels[:, :4, 0].all() and not both.channels[:, :4, 1:].any()
    again = model.given.of(conditions.first_latent[1:], 3)
    assert torch.equal(again.channels[0], both.channels[1]) and len(model.given._encoded) == 2 <= KEPT
    with pytest.raises(UnknownImageError, match="no image that this model has encoded"):
        model.given.of(conditions.first_latent + 1, 3)


def test_each_noise_level_reaches_its_expert_alone(folders):
    model = _model(folders, "experts")
    ensure_lora(model.transformer, rank=4, alpha=8.0, seed=0)
    condition = model.condition(np.stack([_task(i).first_frame for i in range(3)]), [_task().prompt] * 3)
    noise = model.initial_noise([1, 2, 3], 9, 32, 32)

    def owners(sigma):
        model.transformer.zero_grad(set_to_none=True)
        model.velocity(noise, sigma, condition).square().mean().backward()
        return {name.split(".")[0] for name, p in trainable(model.transformer).items() if p.grad is not None}

    assert owners(0.9) == {"transformer"} and owners(0.89) == {"transformer_2"}
    mixed = torch.tensor([0.3, 0.95, 0.2])
    assert owners(mixed) == {"transformer", "transformer_2"}
    with torch.no_grad():
        together = model.velocity(noise, mixed, condition)
        for row in range(3):
            part = slice(row, row + 1)
            alone = model.velocity(noise[part], mixed[part], condition.take(part))
            torch.testing.assert_close(together[part], alone, atol=1e-5, rtol=1e-5)


def _sft(model, prefix, **changes):
    settings = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "lora_rank": 4, "lora_alpha": 8.0, "threads": 1}
    return SftTrainer(
        config=TrainSftConfig(**(settings | changes)),
        model=model,
        demonstrations=Demonstrations.encode(model, [_task(i, "train") for i in range(4)], Progress("test")),
        validation=[_task(0, "validation")],
        prefix=str(prefix),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_training_changes_every_adapter_and_its_checkpoint_loads_in_stock_diffusers(folders, kind, tmp_path):
    model = _model(folders, kind)
    uri = _sft(model, tmp_path / "checkpoints").run()
    checkpoint = tmp_path / "checkpoint"
    checkpoints.load(uri, checkpoint)
    parts = ("transformer", "transformer_2") if kind == "experts" else ("transformer",)
    assert sorted(path.name for path in checkpoint.glob("*.safetensors")) == sorted(map(lora_file, parts))
    again = _model(folders, kind)
    apply_weights(again, checkpoint)
    stock = WanImageToVideoPipeline.from_pretrained(folders / kind)
    for part in parts:
        options = {"load_into_transformer_2": True} if part == "transformer_2" else {}
        stock.load_lora_weights(checkpoint, weight_name=lora_file(part), **options)
    task = _task()
    noise = model.initial_noise([5], 9, 32, 32)
    expected = _stock_latents(stock, task, noise, TOKENS[kind])
    grid = stock.scheduler.sigmas
    condition = model.condition(task.first_frame[None], [task.prompt])
    model.transformer.eval()
    trained = ode_sample(model, noise, condition, grid)
    reloaded = ode_sample(again, noise, again.condition(task.first_frame[None], [task.prompt]), grid)
    torch.testing.assert_close(reloaded, trained, atol=1e-5, rtol=1e-5)
    assert (expected - trained).abs().max() <= 1e-3
    base = _model(folders, kind)
    untrained = ode_sample(base, noise, base.condition(task.first_frame[None], [task.prompt]), grid)
    assert (trained - untrained).abs().max() > 1e-3


def test_a_whole_transformer_is_saved_and_loaded_too(folders, tmp_path):
    model = _model(folders, "experts")
    for parameter in model.transformer.parameters():
        parameter.data += 0.01
    for name, content in weight_files(model.transformer, lora_rank=0, lora_alpha=1.0).items():
        (tmp_path / name).write_bytes(content)
    again = _model(folders, "experts")
    apply_weights(again, tmp_path)
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], tensor)


@pytest.mark.parametrize("objective", ["flow_grpo", "forward_grpo"])
@pytest.mark.parametrize("kind", ["image_tokens", "experts"])
def test_reinforcement_learning_runs(folders, kind, objective, tmp_path):
    model = _model(folders, kind)
    trainer = GrpoTrainer(
        config=TrainGrpoConfig(
            objective=objective,
            iterations=1,
            group_size=3,
            prompts_per_iteration=2,
            rollout_steps=3,
            sde_window=(0, 2),
            reward=EASY,
            lora_rank=4,
            validate_every=5,
            threads=1,
        ),
        model=model,
        prompts=Prompts.encode(model, [_task(i, "train") for i in range(2)], [_task(0, "prompts", "hard")]),
        validation=[_task(0, "validation")],
        prefix=str(tmp_path),
    )
    trainer.run()
    entry = trainer.state.log[0]
    assert entry["grad_norm"] > 0
    if objective == "flow_grpo":
        assert entry["ratio_first"] == pytest.approx(1.0, abs=1e-6)


def test_prepared_experts_are_stored_and_loaded_by_their_reference(folders, tmp_path):
    config = PrepareModelConfig(
        source=str(folders / "experts"), frames=9, max_prompt_tokens=PROMPT_TOKENS, gradient_checkpointing=True
    )
    prepare_model(config, storage_uri=str(tmp_path / "storage"), model=tmp_path / "model.json")
    reference = ModelReference.read(tmp_path / "model.json")
    model = load_video_model(reference, device=CPU)
    assert model.transformer.boundary_ratio == 0.9
    assert model.transformer.transformer_2.gradient_checkpointing
    WanImageToVideoPipeline.from_pretrained(reference.base_uri)


def test_a_folder_on_s3_is_checked_without_its_weights(folders, tmp_path, s3_prefix):
    locations.upload_folder(folders / "experts", f"{s3_prefix}/experts")
    config = PrepareModelConfig(source=f"{s3_prefix}/experts", frames=9, max_prompt_tokens=PROMPT_TOKENS)
    prepare_model(config, storage_uri=str(tmp_path), model=tmp_path / "model.json")
    assert ModelReference.read(tmp_path / "model.json").base_uri == f"{s3_prefix}/experts"
    for name, message in (("transformer_2/config.json", "lacks transformer_2"), ("model_index.json", "no model_index")):
        for place in locations.list_files(f"{s3_prefix}/experts/{name.rpartition('/')[0]}"):
            if name in place or "transformer_2" in name:
                locations.delete(place)
        with pytest.raises(ModelFolderError, match=f"model_source='{s3_prefix}/experts' .*{message}"):
            prepare_model(config, storage_uri=str(tmp_path), model=tmp_path / "model.json")


def _changed(folders, tmp_path, kind, name, **changes):
    """A copy of a folder's JSON files, one of them changed; weights are not needed to refuse a folder."""
    for path in (folders / kind).rglob("*.json"):
        target = tmp_path / path.relative_to(folders / kind)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    content = json.loads((tmp_path / name).read_text()) | changes
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "name", "changes", "message"),
    [
        (
            "concatenation",
            "transformer/config.json",
            {"in_channels": 4},
            r"4 input channels.*text-to-video.*4 \+ 4 \+ 4",
        ),
        ("concatenation", "transformer/config.json", {"in_channels": 9}, r"9 input channels; an image concatenated"),
        (
            "concatenation",
            "model_index.json",
            {"expand_timesteps": True},
            r"12 input channels; expand_timesteps needs 4",
        ),
        ("concatenation", "model_index.json", {"boundary_ratio": 0.9}, "lacks transformer_2"),
        ("experts", "model_index.json", {"boundary_ratio": 900}, "boundary_ratio=900; expected a noise level between"),
        (
            "experts",
            "transformer_2/config.json",
            {"in_channels": 4},
            "in_channels is 12 in transformer and 4 in transf",
        ),
        ("image_tokens", "transformer/config.json", {"pos_embed_seq_len": 514}, "a first and a last frame"),
    ],
)
def test_a_folder_that_cannot_be_trained_is_refused_by_its_json_files(folders, tmp_path, kind, name, changes, message):
    with pytest.raises(ModelFolderError, match=message):
        check_pipeline_folder(_changed(folders, tmp_path, kind, name, **changes))


def test_image_tokens_need_the_prompt_tokens_that_diffusers_counts_on(folders, tmp_path):
    config = PrepareModelConfig(source=str(folders / "image_tokens"), frames=9, max_prompt_tokens=PROMPT_TOKENS)
    with pytest.raises(ModelFolderError, match=r"model_max_prompt_tokens=48 must be 512"):
        prepare_model(config, storage_uri=str(tmp_path), model=tmp_path / "model.json")
