"""LoRA files in DiffSynth's names: the effect is exactly W + B A, both ways, and training starts from them."""

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from safetensors.torch import load_file, save_file
from wan_models import experts_pipeline

from wan_r1.cli import main
from wan_r1.prepare_model import PrepareModelConfig
from wan_r1.prepare_model import run as prepare_model
from wan_r1.tasks.dataset import make_task
from wan_r1.video_model.diffsynth import from_diffsynth, lora_as, read_lora, to_diffsynth
from wan_r1.video_model.loading import load_pipeline_folder, load_video_model
from wan_r1.video_model.lora import LoraError, ensure_lora, load_lora
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.tiny import PROMPT_TOKENS, TRANSFORMER, tiny_pipeline

RANK = 4
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    pipeline = tiny_pipeline(seed=3)
    torch.nn.init.normal_(pipeline.transformer.proj_out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    pipeline.save_pretrained(path)
    return path


def _theirs(rank=RANK, suffix=".default"):
    """An adapter as DiffSynth's trainer writes it, for the tiny transformer."""
    generator = torch.Generator().manual_seed(5)
    width, hidden = TRANSFORMER["num_attention_heads"] * TRANSFORMER["attention_head_dim"], TRANSFORMER["ffn_dim"]
    layers = {f"{part}.{letter}": (width, width) for part in ("self_attn", "cross_attn") for letter in "qkvo"}
    layers |= {"ffn.0": (hidden, width), "ffn.2": (width, hidden)}
    state = {}
    for block in range(TRANSFORMER["num_layers"]):
        for layer, (outputs, inputs) in layers.items():
            name = f"blocks.{block}.{layer}"
            state[f"{name}.lora_A{suffix}.weight"] = torch.randn(rank, inputs, generator=generator) * 0.3
            state[f"{name}.lora_B{suffix}.weight"] = torch.randn(outputs, rank, generator=generator) * 0.3
    return state


def _case(model):
    task = make_task(
        "regular", "easy", "plain", seed=0, split="test", index=0, frames=9, size=32, canvas=4, steps_per_frame=1.0
    )
    condition = model.condition(task.first_frame[None], [task.prompt])
    return model.initial_noise([0], 9, 32, 32), 0.7, condition


def _model(folder):
    return load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=CPU)


def test_the_effect_is_that_of_w_plus_b_a(folder, tmp_path):
    theirs = _theirs()
    save_file(theirs, tmp_path / "theirs.safetensors")
    adapted = _model(folder)
    (tmp_path / "ours.safetensors").write_bytes(lora_as(tmp_path / "theirs.safetensors", "diffusers"))
    load_lora(adapted.transformer, tmp_path / "ours.safetensors")

    # The names by diffusers' own reading of Wan's names, so that ours is not its own judge.
    with_prefix = {f"diffusion_model.{name.replace('.default', '')}": tensor for name, tensor in theirs.items()}
    named = WanImageToVideoPipeline.lora_state_dict(with_prefix)
    fused = _model(folder)
    weights = dict(fused.transformer.named_parameters())
    layers = {name.removeprefix("transformer.").rpartition(".lora_")[0] for name in named}
    assert len(layers) == 10 * TRANSFORMER["num_layers"]
    with torch.no_grad():
        for layer in layers:
            a, b = (named[f"transformer.{layer}.lora_{side}.weight"] for side in "AB")
            weights[f"{layer}.weight"] += b @ a
        expected = fused.velocity(*_case(fused))
        changed = adapted.velocity(*_case(adapted))
        base = _model(folder).velocity(*_case(_model(folder)))
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)
    assert (changed - base).abs().max() > 0.05


def test_both_ways_give_the_same_tensors():
    theirs = _theirs()
    ours, rank, alpha = from_diffsynth(theirs)
    assert (rank, alpha) == (RANK, float(RANK))
    back = to_diffsynth(ours, rank=rank, alpha=alpha)
    assert back.keys() == theirs.keys() and all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_a_scale_goes_into_b():
    ours, rank, _ = from_diffsynth(_theirs())
    scaled = to_diffsynth(ours, rank=rank, alpha=3.0 * rank)
    for name, tensor in _theirs().items():
        torch.testing.assert_close(scaled[name], tensor * (3 if ".lora_B." in name else 1))


@pytest.mark.parametrize("prefix", ["", "pipe.dit.", "diffusion_model."])
def test_names_of_other_tools_with_their_alpha_are_read_too(prefix):
    expected, _, _ = from_diffsynth(_theirs())
    theirs = {}
    for name, tensor in _theirs(suffix="").items():
        theirs[prefix + name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")] = tensor
    theirs |= {name.replace(".lora_up.weight", ".alpha"): torch.tensor(2.0) for name in theirs if ".lora_up." in name}
    ours, rank, alpha = from_diffsynth(theirs)
    assert rank == alpha == RANK
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor * (2.0 / RANK if ".lora_B." in name else 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"blocks.0.cross_attn.k_img.lora_A.weight": torch.zeros(4, 8)}, r"k_img.* no counterpart"),
        (lambda s: s | {"head.head.lora_A.default.weight": torch.zeros(4, 8)}, r"head\.head.* no counterpart"),
        (lambda s: {n: t for n, t in s.items() if "1.ffn.2.lora_B" not in n}, "no partner of its rank 4"),
        (lambda s: _theirs(8) | dict(list(s.items())[:2]), r"ranks differ between layers .*\[4, 8\]"),
        (lambda s: {}, "there are none"),
    ],
)
def test_what_is_no_such_adapter_is_refused(change, message):
    with pytest.raises(LoraError, match=message):
        from_diffsynth(change(_theirs()))


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(LoraError, match=r"a\.safetensors is no safetensors file"):
        read_lora(tmp_path / "a.safetensors")


def test_the_command_converts_both_ways(tmp_path, capsys):
    save_file(_theirs(), tmp_path / "theirs.safetensors")
    ours, back = tmp_path / "out" / "ours.safetensors", tmp_path / "back.safetensors"
    source = str(tmp_path / "theirs.safetensors")
    assert main(["lora", "convert", source, "--to", "diffusers", "--output", str(ours)]) == 0
    assert main(["lora", "convert", str(ours), "--to", "diffsynth", "--output", str(back)]) == 0
    assert "diffsynth names" in capsys.readouterr().out
    there, again = load_file(tmp_path / "theirs.safetensors"), load_file(back)
    assert there.keys() == again.keys() and all(torch.equal(again[name], there[name]) for name in there)
    assert main(["lora", "convert", __file__, "--to", "diffusers", "--output", str(ours)]) == 2


def test_a_model_is_prepared_with_an_adapter_and_training_continues_it(folder, tmp_path):
    save_file(_theirs(), tmp_path / "vr_bench.safetensors")
    config = PrepareModelConfig(
        source=str(folder),
        frames=9,
        max_prompt_tokens=PROMPT_TOKENS,
        adapters=(str(tmp_path / "vr_bench.safetensors"),),
    )
    prepare_model(config, storage_uri=str(tmp_path / "storage"), model=tmp_path / "model.json")
    model = load_video_model(ModelReference.read(tmp_path / "model.json"), device=CPU)
    expected = _model(folder)
    (tmp_path / "ours.safetensors").write_bytes(lora_as(tmp_path / "vr_bench.safetensors", "diffusers"))
    load_lora(expected.transformer, tmp_path / "ours.safetensors")
    with torch.no_grad():
        assert torch.equal(model.velocity(*_case(model)), expected.velocity(*_case(expected)))
    with pytest.raises(LoraError, match=r"lora_alpha=64\.0, but .* alpha 4\.0; use 4\.0"):
        ensure_lora(model.transformer, rank=RANK, alpha=64.0, seed=0)
    ensure_lora(model.transformer, rank=RANK, alpha=float(RANK), seed=0)


def test_an_adapter_that_does_not_fit_is_refused_before_training(folder, tmp_path):
    narrow = {name: t[:, :5].contiguous() if "lora_A" in name else t[:5] for name, t in _theirs().items()}
    save_file(narrow, tmp_path / "narrow.safetensors")
    deep = {name.replace("blocks.3", "blocks.30"): tensor for name, tensor in _theirs().items()}
    save_file(deep, tmp_path / "deep.safetensors")
    experts = tmp_path / "experts"
    experts_pipeline(0).save_pretrained(experts)
    for source, name, message in (
        (folder, "narrow", r"narrow.*is for another model: .* has shape"),
        (folder, "deep", r"deep.*is for another model: the transformer has no layer blocks\.30"),
        (experts, "deep", "has 1 files; the model has 2 transformers: give one for each of transformer, transformer_2"),
    ):
        config = PrepareModelConfig(
            source=str(source),
            frames=9,
            max_prompt_tokens=PROMPT_TOKENS,
            adapters=(str(tmp_path / f"{name}.safetensors"),),
        )
        with pytest.raises(LoraError, match=message):
            prepare_model(config, storage_uri=str(tmp_path / "storage"), model=tmp_path / "model.json")
