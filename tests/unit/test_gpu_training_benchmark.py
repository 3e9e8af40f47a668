"""The benchmark for GPUs runs: whole at a tiny size here, and its 5B model by shapes alone."""

import importlib.util
import json
import sys

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from wan_r1.video_model.flops import VideoShape, training_flops


@pytest.fixture(scope="module")
def benchmark(repository):
    torch.set_num_threads(1)
    path = repository / "tests" / "benchmarks" / "gpu_training.py"
    spec = importlib.util.spec_from_file_location("gpu_training", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_training"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_training"]


@pytest.fixture(autouse=True)
def own_precision():
    """Accelerate keeps one precision a process; other tests have another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("weights", ["bf16", "fp32"])
def test_it_measures_the_projects_own_training(benchmark, tmp_path, weights):
    words = "--size tiny --batch 2 --steps 2 --warmup 1 --group 2 --micro-batch 2 --rollout-steps 4 --lora-rank 4"
    given = [*words.split(), "--peak-tflops", "0.1", "--weights", weights, "--output", str(tmp_path)]
    result = benchmark.main(given)
    assert json.loads((tmp_path / "gpu_training.json").read_text()) == result
    rows = {row["work"]: row for row in result["rows"]}
    assert list(rows) == ["forward pass of 2", "encoding of 1", "decoding of 1", "SFT step", "GRPO iteration"]
    assert all(row["seconds"] > 0 and row["peak_memory_gib"] > 0 for row in rows.values())
    shape = VideoShape(tokens=48, prompt_tokens=48, timesteps=48)
    step = rows["SFT step"]
    assert result["tokens"] == 48
    tflop = 2 * training_flops(benchmark.TINY["transformer"], shape, 4) / 1e12
    assert step["model_tflop"] == pytest.approx(tflop, abs=5e-4)
    assert step["mfu"] == pytest.approx(tflop / step["seconds"] / 0.1, rel=0.05)
    assert rows["encoding of 1"]["mfu"] is None
    assert f"| SFT step | 2 | {step['seconds']:.3f} |" in (tmp_path / "gpu_training.md").read_text()


def test_the_five_billion_parameters_fit_together_by_their_shapes(benchmark):
    with torch.device("meta"):
        transformer = WanTransformer3DModel(**benchmark.FIVE_BILLION["transformer"]).bfloat16()
        codec = AutoencoderKLWan(**benchmark.FIVE_BILLION["codec"])
        assert sum(p.numel() for p in transformer.parameters()) == pytest.approx(5.0e9, rel=0.01)
        assert sum(p.numel() for p in codec.parameters()) == pytest.approx(0.705e9, rel=0.01)
        transformer.enable_gradient_checkpointing()
        latents = torch.zeros(8, 48, 21, 32, 32, dtype=torch.bfloat16)
        velocity = transformer(
            hidden_states=latents,
            timestep=torch.zeros(8, 21 * 16 * 16),
            encoder_hidden_states=torch.zeros(8, 512, 4096, dtype=torch.bfloat16),
            return_dict=False,
        )[0]
        assert velocity.shape == latents.shape
        velocity.sum().backward()
        assert codec.decode(torch.zeros(1, 48, 3, 32, 32)).sample.shape == (1, 3, 9, 512, 512)
        assert codec.encode(torch.zeros(1, 3, 9, 512, 512)).latent_dist.mode().shape == (1, 48, 3, 32, 32)
