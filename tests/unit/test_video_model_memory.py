"""What lets Wan2.2-TI2V-5B train on one GPU, on a tiny model: data types, checkpointing, slices, caches, compiling."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_training import EASY, tasks
from wan_models import experts_pipeline

from wan_r1.prepare_model import PrepareModelConfig
from wan_r1.progress import Progress
from wan_r1.tasks.dataset import iterate_tasks, read_tasks, write_tasks
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.video_model.loading import compile_blocks, load_pipeline_folder
from wan_r1.video_model.lora import LoraError, ensure_lora
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.weights import trainable

CPU = torch.device("cpu")
IN_FLOAT32 = ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
"""What diffusers keeps in float32 of a bfloat16 Wan."""


@pytest.fixture(autouse=True)
def own_precision():
    """Accelerate keeps one precision a process; other tests have another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    pipeline = tiny_pipeline(seed=3)
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    pipeline.save_pretrained(path)
    return path


def _model(folder, **changes):
    return load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=CPU, **changes)


def _case(model, count=2):
    levels = tasks("test", count)
    condition = model.condition(np.stack([task.first_frame for task in levels]), [task.prompt for task in levels])
    return model.initial_noise(range(count), 9, 32, 32), torch.linspace(0.3, 0.9, count), condition


def _gradients(model):
    model.transformer.zero_grad(set_to_none=True)
    noise, sigma, condition = _case(model)
    model.transformer.train()
    model.velocity(noise, sigma, condition).square().mean().backward()
    return {name: p.grad.clone() for name, p in trainable(model.transformer).items() if p.grad is not None}


def _train(folder, prefix):
    model = _model(folder, dtype=torch.bfloat16, gradient_checkpointing=True)
    with Progress("test") as progress:
        demonstrations = Demonstrations.encode(model, tasks("train", 4), progress)
    config = TrainSftConfig(steps=2, batch_size=4, lora_rank=4, lora_alpha=8.0, precision="bf16", threads=1)
    trainer = SftTrainer(
        config=config, model=model, demonstrations=demonstrations, validation=tasks("validation", 1), prefix=str(prefix)
    )
    return trainer, trainer.run()


def test_frozen_weights_are_bfloat16_and_what_is_trained_is_float32(folder, tmp_path):
    trainer, uri = _train(folder, tmp_path)
    kinds = {}
    for name, parameter in trainer.model.transformer.named_parameters():
        kind = "adapter" if "lora_" in name else "exact" if any(part in name for part in IN_FLOAT32) else "frozen"
        kinds.setdefault(kind, set()).add((parameter.dtype, parameter.requires_grad))
    assert kinds == {
        "adapter": {(torch.float32, True)},
        "exact": {(torch.float32, False)},
        "frozen": {(torch.bfloat16, False)},
    }
    assert {p.dtype for p in trainer.model.vae.parameters()} == {torch.float32}
    assert {p.dtype for p in trainer.model.text_encoder.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in trainer.state.ema.values()} == {torch.float32}
    state = torch.load(f"{uri}/training_state.pt", weights_only=True)["optimizer"]["state"]
    assert len(state) == len(trainer.state.ema)
    assert all(entry["exp_avg"].dtype == entry["exp_avg_sq"].dtype == torch.float32 for entry in state.values())


def test_an_adapters_products_are_bfloat16_like_those_of_its_weights(folder):
    model = _model(folder, dtype=torch.bfloat16)
    ensure_lora(model.transformer, rank=4, alpha=8.0, seed=0)
    layer, seen = model.transformer.blocks[0].ffn.net[2].lora_A["wan_r1"], []
    layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    _gradients(model)
    assert seen == [(torch.bfloat16, torch.bfloat16)]


def test_all_weights_are_trained_in_float32_only(folder):
    with pytest.raises(LoraError, match=r"lora_rank=0 trains all weights.*model_weights=fp32"):
        ensure_lora(_model(folder, dtype=torch.bfloat16).transformer, rank=0, alpha=1.0, seed=0)


def test_bfloat16_weights_give_nearly_the_same_velocity(folder):
    with torch.no_grad():
        exact, rounded = (_model(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
        first, second = (model.velocity(*_case(model)) for model in (exact, rounded))
    assert second.dtype == torch.float32
    assert (first - second).abs().mean() < 0.02 * first.abs().mean()


def test_the_time_embedding_is_exact_under_autocast(folder):
    exact, rounded = (_model(folder, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    angles = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        embedded = rounded.transformer.condition_embedder.time_embedder(angles)
    assert embedded.dtype == torch.float32
    # The folder's float32 weights were read as bfloat16 for all but these.
    with torch.no_grad():
        torch.testing.assert_close(embedded, exact.transformer.condition_embedder.time_embedder(angles))


def test_the_ratio_is_one_before_an_update_in_bfloat16(folder, tmp_path):
    model = _model(folder, dtype=torch.bfloat16, gradient_checkpointing=True)
    trainer = GrpoTrainer(
        config=TrainGrpoConfig(
            objective="flow_grpo",
            reward=EASY,
            iterations=2,
            group_size=2,
            prompts_per_iteration=2,
            harder_share=0.0,
            rollout_steps=3,
            sde_window=(0, 1),
            lora_rank=4,
            micro_batch=2,
            validate_every=5,
            precision="bf16",
            threads=1,
        ),
        model=model,
        prompts=Prompts.encode(model, tasks("train", 4), []),
        validation=tasks("validation", 1),
        prefix=str(tmp_path),
    )
    trainer.run()
    for entry in trainer.state.log:
        assert entry["ratio_first"] == pytest.approx(1.0, abs=1e-6) and entry["grad_norm"] > 0


@pytest.mark.parametrize("rank", [0, 4])
def test_checkpointing_gives_the_same_gradients_from_a_second_forward_pass(folder, rank):
    found = []
    for checkpointing in (False, True):
        model = _model(folder, gradient_checkpointing=checkpointing)
        ensure_lora(model.transformer, rank=rank, alpha=8.0, seed=0)
        calls = []
        model.transformer.blocks[1].attn1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        found.append((_gradients(model), len(calls)))
    (kept, once), (again, twice) = found
    assert (once, twice) == (1, 2) and kept.keys() == again.keys() and len(kept) > 20
    for name, gradient in kept.items():
        assert torch.equal(gradient, again[name]), name


def test_videos_are_decoded_in_slices(folder):
    results = []
    for codec_batch, calls in ((16, 1), (1, 3)):
        model = _model(folder, codec_batch=codec_batch)
        decode, sizes = model.vae.decode, []

        def counted(latents, decode=decode, sizes=sizes):
            sizes.append(len(latents))
            return decode(latents)

        model.vae.decode = counted
        results.append(model.decode(model.initial_noise([1, 2, 3], 9, 32, 32)))
        assert len(sizes) == calls and sum(sizes) == 3
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1


def test_validation_samples_in_the_models_own_batches(folder):
    model = _model(folder, sample_batch=2)
    sizes = []
    model.transformer.register_forward_hook(
        lambda module, args, kwargs, output: sizes.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    levels = tasks("test", 3)
    first = np.stack([task.first_frame for task in levels])
    model.sample(first, [task.prompt for task in levels], frames=9, steps=1, seeds=[1, 2, 3])
    assert sizes == [2, 1]


def test_prompts_are_encoded_once_and_outlive_the_text_encoder(folder):
    model = _model(folder)
    levels = tasks("train", 6)
    prompts = Prompts.encode(model, levels, [])
    distinct = list(dict.fromkeys(task.prompt for task in levels))
    assert len(prompts.prompt_embeds) == len(distinct) < len(levels)
    model.drop_text_encoder()
    assert model.text_encoder is None
    for index, task in enumerate(levels):
        expected = model.encode_prompts([task.prompt])
        assert torch.equal(prompts.condition(np.array([index])).prompt_embeds, expected)
    with pytest.raises(RuntimeError, match="text encoder was dropped and 1 prompts are not cached"):
        model.encode_prompts(["Another prompt."])


def test_demonstrations_are_read_a_part_at_a_time(folder, tmp_path):
    write_tasks(tasks("train", 5), tmp_path / "train-00000.parquet")
    model, held = _model(folder), []

    def counted():
        for task in iterate_tasks(tmp_path, split="train", part=2):
            held.append(task.level_id)
            yield task

    with Progress("test") as progress:
        streamed = Demonstrations.encode(model, counted(), progress)
        whole = Demonstrations.encode(model, read_tasks(tmp_path, split="train"), progress)
    assert streamed.level_ids == whole.level_ids == held and len(held) == 5
    assert torch.equal(streamed.latents, whole.latents) and torch.equal(streamed.prompt_of, whole.prompt_of)
    assert [task.video is None for task in read_tasks(tmp_path, split="train", videos=False)] == [True] * 5


@pytest.mark.parametrize("experts", [False, True])
def test_blocks_compile_whole_with_adapters_checkpointing_and_bfloat16(folder, tmp_path, experts):
    """Traced without a break; what a compiler makes of the trace is its own affair."""
    if experts:
        folder = tmp_path / "experts"
        experts_pipeline(3).save_pretrained(folder)
    model = _model(folder, dtype=torch.bfloat16, gradient_checkpointing=True)
    ensure_lora(model.transformer, rank=4, alpha=8.0, seed=0)
    with torch.no_grad():
        for index, parameter in enumerate(trainable(model.transformer).values()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    expected = _gradients(model)
    torch.compiler.reset()
    compile_blocks(model, backend="eager")
    compiled = _gradients(model)
    assert compiled.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-2)
    torch.compiler.reset()


def test_the_preset_of_five_billion_parameters_asks_for_all_of_it():
    model = PrepareModelConfig.from_preset("wan2.2-ti2v-5b")
    assert (model.weights, model.gradient_checkpointing, model.codec_batch) == ("bf16", True, 1)
    sft, grpo = (config.from_preset("wan2.2-ti2v-5b") for config in (TrainSftConfig, TrainGrpoConfig))
    assert sft.lora_rank == grpo.lora_rank == 32 and sft.lora_alpha == grpo.lora_alpha
    assert sft.precision == grpo.precision == "bf16" and grpo.micro_batch == 4
