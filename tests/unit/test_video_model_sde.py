"""The SDE step against closed forms: the ODE, a Gaussian's marginals, torch.distributions, and a replay."""

import itertools
import math

import pytest
import torch

from wan_r1.video_model.schedule import random_sigmas, sigma_grid
from wan_r1.video_model.sde import COEFFICIENTS, diffusion_coefficient, masked_mean, sde_step, transition_kl

SHAPE = (3, 4, 3, 8, 8)


def _tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))


def _step(x, velocity, **changes):
    arguments = {"sigma": 0.9, "sigma_next": 0.75, "sigma_first": 0.95, "kind": "flow_grpo", "noise": 0.7}
    return sde_step(x, velocity, **(arguments | changes))


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_zero_noise_is_the_euler_ode(kind):
    x, velocity, z = _tensors()
    step = _step(x, velocity, kind=kind, noise=0.0, z=z)
    torch.testing.assert_close(step.sample, x + velocity * (0.75 - 0.9), atol=1e-6, rtol=1e-6)
    assert step.std == 0.0


def test_flow_grpo_and_dance_grpo_are_one_step_at_equal_coefficient():
    x, velocity, z = _tensors()
    g = diffusion_coefficient("flow_grpo", 0.7, 0.9, 0.95)
    flow = _step(x, velocity, z=z)
    dance = _step(x, velocity, kind="dance_grpo", noise=g, z=z)
    torch.testing.assert_close(flow.sample, dance.sample, atol=0, rtol=0)
    torch.testing.assert_close(flow.log_prob, dance.log_prob, atol=0, rtol=0)


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_log_prob_equals_torch_distributions(kind):
    x, velocity, z = _tensors()
    step = _step(x, velocity, kind=kind, z=z)
    expected = torch.distributions.Normal(step.mean, step.std).log_prob(step.sample).mean((1, 2, 3, 4))
    torch.testing.assert_close(step.log_prob, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_a_replay_gives_the_stored_log_prob_exactly(kind):
    x, velocity, z = _tensors()
    taken = _step(x, velocity, kind=kind, z=z)
    replayed = _step(x, velocity, kind=kind, sample=taken.sample)
    assert torch.equal(torch.exp(replayed.log_prob - taken.log_prob), torch.ones(SHAPE[0]))


def test_the_conditioning_frame_takes_no_noise_and_no_log_prob():
    x, velocity, z = _tensors()
    mask = torch.ones(1, 1, 3, 1, 1)
    mask[:, :, 0] = 0
    step = _step(x, velocity, z=z, mask=mask)
    torch.testing.assert_close(step.sample[:, :, 0], step.mean[:, :, 0], atol=0, rtol=0)
    other = _step(x, velocity, sample=step.sample + (1 - mask) * 5, mask=mask)
    torch.testing.assert_close(other.log_prob, step.log_prob)


@pytest.mark.parametrize("kind", ["flow_grpo", "dance_grpo", "wan"])
def test_the_marginals_of_a_gaussian_are_kept(kind):
    """Data N(0, d^2) with its exact velocity: many small steps keep the standard deviation of every noise level."""
    data, steps = 0.5, 400
    sigmas = sigma_grid(steps, 1.0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20000, 1, 1, 1, 1, generator=generator)
    levels = sigmas.tolist()
    for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        variance = (1 - sigma) ** 2 * data**2 + sigma**2
        velocity = x * (sigma - (1 - sigma) * data**2) / variance
        if index in (0, steps - 1):
            x = x + velocity * (sigma_next - sigma)
            continue
        z = torch.randn(x.shape, generator=generator)
        x = sde_step(
            x, velocity, sigma=sigma, sigma_next=sigma_next, sigma_first=levels[1], kind=kind, noise=0.5, z=z
        ).sample
    assert x.std().item() == pytest.approx(data, rel=0.03)


def test_transition_kl_equals_torch_distributions():
    x, velocity, z = _tensors()
    step = _step(x, velocity, z=z)
    other = _step(x, velocity + 0.1 * z, sample=step.sample).mean
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(step.mean, step.std), normal(other, step.std)).mean(
        (1, 2, 3, 4)
    )
    torch.testing.assert_close(transition_kl(step, other, torch.ones(1, 1, 1, 1, 1)), expected)


def test_the_mean_log_ratio_is_below_zero_for_any_change():
    """E[log ratio] = -KL < 0 under the old policy: the bias that GRPO-Guard describes, not a bug."""
    generator = torch.Generator().manual_seed(3)
    x, velocity = torch.randn(512, 4, 3, 8, 8, generator=generator), torch.zeros(512, 4, 3, 8, 8)
    taken = _step(x, velocity, z=torch.randn(x.shape, generator=generator))
    moved = _step(x, velocity + 0.3, sample=taken.sample)
    kl = transition_kl(taken, moved.mean, torch.ones(1, 1, 1, 1, 1)).mean()
    assert (moved.log_prob - taken.log_prob).mean().item() == pytest.approx(-kl.item(), rel=0.1)


def test_flow_grpo_coefficient_is_bounded_at_the_first_step():
    for first in (1.0, 1 - 1e-6):
        assert diffusion_coefficient("flow_grpo", 0.7, first, 0.95) == pytest.approx(0.7 * math.sqrt(0.95 / 0.05))


def test_wrong_dtype_and_wrong_arguments_are_refused():
    x, velocity, z = _tensors()
    with pytest.raises(ValueError, match="float32"):
        _step(x.bfloat16(), velocity, z=z)
    with pytest.raises(ValueError, match="either z"):
        _step(x, velocity)
    with pytest.raises(ValueError, match="unknown; allowed"):
        _step(x, velocity, kind="flow", z=z)


def test_sigma_grid_ends_and_shift():
    grid = sigma_grid(4, 3.0)
    assert grid[0] == 1.0 and grid[-1] == 0.0 and grid.dtype == torch.float32
    assert grid[2].item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    sigmas = random_sigmas(1000, 3.0, torch.Generator().manual_seed(0))
    u = sigmas / (3 - 2 * sigmas)
    assert sigmas.min() > 0 and sigmas.max() <= 1 and abs(u.mean().item() - 0.5) < 1e-3


def test_masked_mean_divides_by_the_masked_count():
    values = torch.arange(8.0).reshape(2, 1, 4, 1, 1)
    mask = torch.tensor([0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 4, 1, 1)
    torch.testing.assert_close(masked_mean(values, mask), torch.tensor([2.0, 6.0]))
