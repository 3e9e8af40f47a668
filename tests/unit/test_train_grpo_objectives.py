"""Advantages and the two objectives against their definitions."""

import numpy as np
import pytest
import torch

from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.forward_grpo import forward_grpo_loss, good_share


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
