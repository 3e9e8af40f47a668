"""A batch spread over cores gives what it gives in one piece."""

import threading
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from wan_r1.training.backward import backward
from wan_r1.video_model.cores import Cores
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.wan import Condition
from wan_r1.video_model.weights import trainable


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_pipeline(seed=0).save_pretrained(path)
    loaded = load_pipeline_folder(path, max_prompt_tokens=PROMPT_TOKENS, device=torch.device("cpu"))
    # The last layer starts near zero: larger outputs make differences visible.
    torch.nn.init.normal_(loaded.transformer.proj_out.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return loaded


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(21, 4, 3, 8, 8, generator=generator)
    condition = Condition(
        first_latent=torch.randn(21, 4, 1, 8, 8, generator=generator),
        prompt_embeds=torch.randn(21, PROMPT_TOKENS, 32, generator=generator),
    )
    return x, torch.rand(21, generator=generator), condition


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(1, 50, [50]), (2, 50, [25, 25]), (4, 50, [12, 13, 12, 13]), (4, 20, [10, 10]), (2, 3, [3])],
)
def test_shares_are_nearly_equal_and_never_tiny(count, size, sizes):
    shares = Cores(count).shares(size)
    assert [share.stop - share.start for share in shares] == sizes
    assert [index for share in shares for index in range(size)[share]] == list(range(size))


def test_shares_run_at_once_and_come_back_in_order():
    meeting = threading.Barrier(2, timeout=20)

    def work(share, core):
        meeting.wait()
        return share.start, core, torch.is_grad_enabled()

    with torch.no_grad():
        assert Cores(2).spread(work, 40) == [(0, 0, False), (20, 1, False)]
    assert Cores(2).spread(work, 40) == [(0, 0, True), (20, 1, True)]


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_comes_after_every_thread_has_ended(failing):
    ended = []

    def work(share, core):
        if core == failing:
            raise ValueError("broken share")
        time.sleep(0.2)
        ended.append(core)

    with pytest.raises(ValueError, match="broken share"):
        Cores(2).spread(work, 40)
    assert ended == [1 - failing]


def test_velocities_and_videos_are_the_same(model, batch):
    x, sigma, condition = batch
    results = []
    for count in (1, 2):
        model.cores, model._codecs = Cores(count), []
        with torch.no_grad():
            velocity = model.velocity(x, sigma, condition)
        videos = model.decode(x)
        results.append((velocity, videos, model.encode_videos(videos)))
    (velocity, videos, latents), (velocity_2, videos_2, latents_2) = results
    torch.testing.assert_close(velocity, velocity_2, atol=1e-5, rtol=1e-5)
    assert np.abs(videos.astype(int) - videos_2).max() <= 1
    torch.testing.assert_close(latents, latents_2, atol=0.05, rtol=0.05)


def test_gradients_are_the_same_and_add_up(model, batch):
    x, sigma, condition = batch
    parameters = trainable(model.transformer)

    def loss(part):
        velocity = model.velocity(x[part], sigma[part], condition.take(part))
        return velocity.square().mean(), {"largest": float(part.stop)}

    found = []
    for count in (1, 2):
        model.transformer.zero_grad(set_to_none=True)
        for _ in range(2):
            logged = backward(Accelerator(cpu=True), Cores(count), loss, len(x), parameters.values(), scale=0.5)
        found.append(({name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}, logged))
    (whole, logged), (spread, logged_2) = found
    assert whole.keys() == spread.keys() and len(whole) > 50
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, spread[name], atol=1e-6, rtol=1e-4, msg=name)
    assert logged["loss"] == pytest.approx(logged_2["loss"], rel=1e-5)
    assert logged_2["largest"] == pytest.approx((10 * 10 + 21 * 11) / 21)
