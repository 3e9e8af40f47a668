"""Advantages and the two objectives against their definitions."""

import numpy as np
import pytest
import torch
from tiny_training import tasks

from wan_r1.config import ConfigError
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.curriculum import Curriculum, kind_of
from wan_r1.train_grpo.flow_grpo import flow_grpo_loss, gradient_scale, step_weights, stochastic_steps
from wan_r1.train_grpo.forward_grpo import forward_grpo_loss, good_share
from wan_r1.video_model.sampling import Transition
from wan_r1.video_model.schedule import sigma_grid
from wan_r1.video_model.sde import COEFFICIENTS, sde_step


def test_advantages_sum_to_zero_and_have_unit_spread():
    rewards = np.random.default_rng(0).random((5, 8)).astype(np.float32)
    advantages = group_advantages(rewards, clip=5.0, least_std=1e-6)
    assert advantages.mixed.all() and advantages.zero_std_groups == 0
    np.testing.assert_allclose(advantages.values.sum(1), 0, atol=1e-4)
    np.testing.assert_allclose(advantages.values.std(1), 1, atol=2e-3)


def test_groups_without_variance_are_marked_and_get_zero():
    rewards = np.array([[0.5] * 4, [0, 0, 0, 1]], np.float32)
    advantages = group_advantages(rewards, clip=5.0, least_std=1e-6)
    assert advantages.mixed.tolist() == [False, True]
    assert advantages.zero_std_groups == 0.5
    assert not advantages.values[0].any()
    assert advantages.values[1, 3] == pytest.approx(np.sqrt(3), rel=1e-3)


def test_groups_that_differ_in_fidelity_alone_teach_nothing():
    rewards = np.array([[0.9995, 0.9996, 0.9998, 0.9997], [0.2, 0.2, 0.2, 0.9998]], np.float32)
    advantages = group_advantages(rewards, clip=5.0, least_std=0.01)
    assert advantages.mixed.tolist() == [False, True] and not advantages.values[0].any()


def test_advantages_are_clipped():
    rewards = np.zeros((1, 100), np.float32)
    rewards[0, 0] = 1
    assert group_advantages(rewards, clip=5.0, least_std=1e-6).values.max() == 5.0


def test_good_share_is_linear_between_its_ends():
    advantages = torch.tensor([-9.0, -2.0, 0.0, 1.0, 2.0, 9.0])
    torch.testing.assert_close(good_share(advantages, 2.0), torch.tensor([0.0, 0.0, 0.5, 0.75, 1.0, 1.0]))


def _forward(good, seed=0, anchor=0.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    clean, noise, old = (torch.randn(4, 2, 3, 4, 4, generator=generator) for _ in range(3))
    sigma = torch.tensor([0.2, 0.5, 0.8, 1.0])
    level = sigma.view(-1, 1, 1, 1, 1)
    velocity = (old + shift).requires_grad_()
    mask = torch.ones(1, 1, 3, 1, 1)
    mask[:, :, 0] = 0
    result = forward_grpo_loss(
        clean,
        (1 - level) * clean + level * noise,
        sigma,
        torch.full((4,), good),
        velocity=velocity,
        sampling_velocity=old,
        reference_velocity=old,
        mask=mask,
        anchor=anchor,
    )
    result.loss.backward()
    return result, velocity.grad, noise - clean - old


def test_a_good_video_pulls_the_velocity_towards_it_and_a_bad_one_pushes_away():
    _, pulled, direction = _forward(1.0)
    _, pushed, _ = _forward(0.0)
    generated = (slice(None), slice(None), slice(1, None))
    assert (pulled[generated] * direction[generated]).sum() < 0
    torch.testing.assert_close(pulled, -pushed)


def test_an_average_video_leaves_the_sampling_policy_where_it_is():
    _, gradient, _ = _forward(0.5)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


def test_the_conditioning_frame_has_no_gradient():
    _, gradient, _ = _forward(1.0, anchor=1.0, shift=0.3)
    assert not gradient[:, :, 0].any()


def test_the_anchor_is_the_distance_to_the_reference():
    result, _, _ = _forward(0.5, anchor=1.0, shift=0.3)
    assert result.anchor == pytest.approx(0.09, rel=1e-4)


def test_a_global_spread_keeps_how_much_groups_differ_and_none_keeps_the_reward_s_unit():
    rewards = np.array([[0.0, 1.0], [0.4, 0.6]], np.float32)
    alike = group_advantages(rewards, 5.0, 1e-6).values
    np.testing.assert_allclose(alike, [[-1, 1], [-1, 1]], atol=2e-3)
    overall = group_advantages(rewards, 5.0, 1e-6, spread="global").values
    np.testing.assert_allclose(overall, np.array([[-0.5, 0.5], [-0.1, 0.1]]) / (rewards.std() + 1e-4), rtol=1e-5)
    plain = group_advantages(rewards, 5.0, 1e-6, spread="none").values
    np.testing.assert_allclose(plain, [[-0.5, 0.5], [-0.1, 0.1]], atol=1e-6)


def test_best_and_worst_are_chosen_after_all_were_compared():
    rewards = np.array([[0.1, 0.9, 0.5, 0.4], [0.2, 0.2, 0.8, 0.2]], np.float32)
    chosen = group_advantages(rewards, 5.0, 1e-6, best_and_worst=2)
    assert chosen.trained.tolist() == [[0, 1], [0, 2]]
    np.testing.assert_array_equal(chosen.values, group_advantages(rewards, 5.0, 1e-6).values)


class _Mask:
    """The part of a video model that the loss asks: which elements are generated."""

    def mask(self, x):
        mask = torch.ones(1, 1, x.shape[2], 1, 1)
        mask[:, :, 0] = 0
        return mask


def _replayed(kind, guarded=False, change=0.02, clip_range=10.0):
    """Loss of a transition whose velocity changed by ``change`` times a fixed direction; with what made it."""
    generator = torch.Generator().manual_seed(0)
    x, velocity, z, direction = (torch.randn(3, 2, 3, 4, 4, generator=generator) for _ in range(4))
    step = {"sigma": 0.8, "sigma_next": 0.6, "sigma_first": 0.9, "kind": kind, "noise": 0.5}
    mask = _Mask().mask(x)
    made = sde_step(x, velocity, z=z, mask=mask, **step)
    transition = Transition(
        index=1,
        sigma=0.8,
        sigma_next=0.6,
        rows=torch.arange(3),
        x=x,
        sample=made.sample,
        mean=made.mean,
        log_prob=made.log_prob,
    )
    moved = (velocity + change * direction).requires_grad_()
    result = flow_grpo_loss(
        _Mask(),
        transition,
        torch.tensor([1.0, -0.5, 2.0]),
        velocity=moved,
        reference_velocity=None,
        sigma_first=0.9,
        kind=kind,
        noise=0.5,
        clip_range=clip_range,
        kl_beta=0.0,
        guarded=guarded,
    )
    result.loss.backward()
    drift = sde_step(x, moved.detach(), z=z, mask=mask, **step).mean - made.mean
    return result, moved.grad, z, drift, made.std


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_the_guarded_ratio_is_the_noise_times_the_drift(kind):
    """GRPO-Guard: ``s (log p - log p_old + b)`` is mean(z dmu), of which nothing is always below zero."""
    result, _, z, drift, _ = _replayed(kind, guarded=True)
    expected = torch.exp((z * drift)[:, :, 1:].mean((1, 2, 3, 4)))
    torch.testing.assert_close(result.ratio, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guarded", [False, True])
def test_the_ratio_is_one_where_nothing_changed(guarded):
    result, gradient, _, _, _ = _replayed("flow_grpo", guarded=guarded, change=0.0)
    torch.testing.assert_close(result.ratio, torch.ones(3), atol=1e-6, rtol=0)
    assert gradient[:, :, 1:].abs().max() > 0 and not gradient[:, :, 0].any()


@pytest.mark.parametrize("kind", COEFFICIENTS)
@pytest.mark.parametrize(("sigma", "sigma_next"), [(0.95, 0.9), (0.7, 0.5), (0.3, 0.1)])
def test_the_gradient_scale_is_the_step_s_own_derivative(kind, sigma, sigma_next):
    x = torch.zeros(1, 1, 1, 1, 1)
    velocity = torch.zeros(1, 1, 1, 1, 1, requires_grad=True)
    step = sde_step(
        x, velocity, sigma=sigma, sigma_next=sigma_next, sigma_first=0.98, kind=kind, noise=0.7, z=torch.zeros_like(x)
    )
    step.mean.sum().backward()
    found = gradient_scale(kind, 0.7, sigma, sigma_next, 0.98)
    assert found == pytest.approx(abs(float(velocity.grad)) / step.std, rel=1e-5)


def test_windows_are_fixed_slide_or_differ_by_group():
    generator = torch.Generator().manual_seed(0)
    fixed = TrainGrpoConfig(rollout_steps=8, sde_window=(1, 2))
    assert stochastic_steps(fixed, 3, 99, generator).tolist() == [[1, 2]] * 3
    sliding = TrainGrpoConfig(rollout_steps=8, sde_window=(0, 1), sde_window_moves="sliding", sde_window_every=10)
    starts = [stochastic_steps(sliding, 1, iteration, generator)[0].tolist() for iteration in (0, 9, 10, 50, 60)]
    assert starts == [[0, 1], [0, 1], [1, 2], [5, 6], [0, 1]], "the last step is never reached"
    random = TrainGrpoConfig(rollout_steps=8, sde_window=(1, 2, 3), sde_window_moves="random")
    drawn = stochastic_steps(random, 400, 0, generator)
    assert drawn.shape == (400, 1) and set(drawn.reshape(-1).tolist()) == {1, 2, 3}


def test_step_weights_undo_the_gradient_s_scale_and_have_mean_one():
    config = TrainGrpoConfig(
        rollout_steps=8, sde_window=(1, 2, 3), sde_window_moves="random", step_weighting="gradient_scale"
    )
    grid = sigma_grid(8, 3.0)
    drawn = stochastic_steps(config, 64, 0, torch.Generator().manual_seed(0))
    weights = step_weights(config, grid, drawn)
    assert np.mean([weights[step] for step in drawn.reshape(-1).tolist()]) == pytest.approx(1)
    levels = grid.tolist()
    scaled = {
        step: weight * gradient_scale("flow_grpo", 0.5, levels[step], levels[step + 1], levels[1])
        for step, weight in weights.items()
    }
    assert max(scaled.values()) == pytest.approx(min(scaled.values())) and max(weights.values()) > min(weights.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sde_window_moves": "slides"}, "grpo_sde_window_moves='slides' is unknown.*did you mean sliding"),
        ({"sde_window_moves": "sliding", "rollout_steps": 2}, "grpo_sde_window_moves.*already reaches the last step"),
        ({"best_and_worst": 3}, "grpo_best_and_worst=3 .*an even number from 0 to 8"),
        ({"shared_noise": True, "objective": "forward_grpo"}, "grpo_shared_noise=True.*same video"),
        ({"reward_workers": 2}, "grpo_reward_workers=2.*grpo_micro_batch"),
        ({"curriculum_floor": 0.0}, "grpo_curriculum_floor=0.0.*above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_what_can(changes, message):
    with pytest.raises(ConfigError, match=message):
        TrainGrpoConfig(**changes)


def test_the_curriculum_prefers_kinds_that_are_solved_half_of_the_time():
    known = tasks("prompts", 8, "hard")
    kinds = sorted({kind_of(task) for task in known})
    assert len(kinds) >= 3
    curriculum = Curriculum(floor=0.1)
    assert curriculum.weights(known).tolist() == [1.0] * 8
    for _ in range(60):
        curriculum.learn([(kinds[0], 0.0), (kinds[1], 1.0), (kinds[2], 1.0), (kinds[2], 0.0)])
    weights = dict(zip(map(kind_of, known), curriculum.weights(known), strict=True))
    assert weights[kinds[0]] == pytest.approx(0.1) and weights[kinds[1]] == pytest.approx(0.1, abs=0.01)
    assert weights[kinds[2]] == pytest.approx(1.0)
    again = Curriculum(floor=0.1)
    again.load(curriculum.state())
    assert again.rates == curriculum.rates
