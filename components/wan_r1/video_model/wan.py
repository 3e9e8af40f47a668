"""A Wan image-to-video model through unmodified diffusers and transformers classes, as training needs it.

Conditioning as in Wan2.2-TI2V (diffusers' ``expand_timesteps``): the first latent frame is the given image's, clean;
its tokens get timestep 0, take no noise and no loss. Or as in Wan2.1-I2V and Wan2.2-I2V-A14B: all latent frames are
generated, and the given image enters as further channels (`wan_r1.video_model.given`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from wan_r1.video_model.codec import latent_statistics
from wan_r1.video_model.cores import Cores
from wan_r1.video_model.experts import WanExperts
from wan_r1.video_model.given import GivenImages
from wan_r1.video_model.sampling import ode_sample
from wan_r1.video_model.schedule import TIMESTEPS, sigma_grid


@dataclass(kw_only=True)
class Condition:
    """What a batch of videos is conditioned on.

    Attributes:
        first_latent: clean latent of the given image, `[batch, channels, 1, height, width]`, float32, normalised.
        prompt_embeds: `[batch, tokens, width]`.
    """

    first_latent: torch.Tensor
    prompt_embeds: torch.Tensor

    def repeat_interleave(self, count: int) -> Condition:
        """Each entry ``count`` times in a row: one prompt for a whole group."""
        return Condition(
            first_latent=self.first_latent.repeat_interleave(count, 0),
            prompt_embeds=self.prompt_embeds.repeat_interleave(count, 0),
        )

    def join(self, other: Condition) -> Condition:
        """The entries of this one, then those of the other."""
        return Condition(
            first_latent=torch.cat([self.first_latent, other.first_latent]),
            prompt_embeds=torch.cat([self.prompt_embeds, other.prompt_embeds]),
        )

    def take(self, indices: torch.Tensor | slice) -> Condition:
        """The entries at ``indices``."""
        return Condition(first_latent=self.first_latent[indices], prompt_embeds=self.prompt_embeds[indices])


@dataclass(kw_only=True)
class VideoModel:
    """The parts of a diffusers Wan pipeline, with the operations that training and sampling share.

    Attributes:
        transformer: velocity model, or two that share the noise levels; may carry LoRA adapters.
        vae: codec between frames and latents, frozen.
        text_encoder: frozen; may be None once all prompts are cached.
        tokenizer: its tokenizer.
        scheduler: the pipeline's scheduler; its ``shift`` or ``flow_shift`` is the model's time shift.
        max_prompt_tokens: tokens a prompt is padded to.
        device: where the transformer and the codec are.
        codec_batch: videos per codec call. The codec's normalisation is memory-bound, so small batches that stay in the
            cache are faster on a CPU.
        sample_batch: videos per forward pass of `sample`, where it is not told otherwise.
        cores: CPU cores that the videos of a batch are spread over.
        given: the images of a model that takes them as further channels; None where they are the first latent frame.
    """

    transformer: WanTransformer3DModel | WanExperts
    vae: AutoencoderKLWan
    text_encoder: torch.nn.Module | None
    tokenizer: Any
    scheduler: Any
    max_prompt_tokens: int = 512
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    codec_batch: int = 16
    sample_batch: int = 64
    cores: Cores = field(default_factory=Cores)
    given: GivenImages | None = None
    _prompts: dict[str, torch.Tensor] = field(default_factory=dict)
    _codecs: list[AutoencoderKLWan] = field(default_factory=list)

    @property
    def shift(self) -> float:
        """The time shift of the model's noise schedule."""
        config = self.scheduler.config
        return float(config.get("flow_shift") or config.get("shift") or 1.0)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a video of ``frames`` frames."""
        return (frames - 1) // self.vae.config.scale_factor_temporal + 1

    # Prompts and frames

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompt embeddings `[batch, tokens, width]`; each distinct prompt goes through the text encoder once.

        Positions past a prompt's end are zero, as in the stock pipeline.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]
        if missing:
            if self.text_encoder is None:
                raise RuntimeError(f"the text encoder was dropped and {len(missing)} prompts are not cached")
            tokens = self.tokenizer(
                missing,
                padding="max_length",
                max_length=self.max_prompt_tokens,
                truncation=True,
                add_special_tokens=True,
                return_attention_mask=True,
                return_tensors="pt",
            )
            # On a GPU only while it works: it is larger than the transformer of Wan2.2-TI2V-5B.
            self.text_encoder.to(self.device)
            mask = tokens.attention_mask.to(self.device)
            hidden = self.text_encoder(tokens.input_ids.to(self.device), mask).last_hidden_state
            hidden = (hidden * mask.unsqueeze(-1)).to(self.transformer.dtype)
            self.text_encoder.to("cpu")
            self._prompts.update(zip(missing, hidden, strict=True))
        return torch.stack([self._prompts[prompt] for prompt in prompts])

    def drop_text_encoder(self) -> None:
        """Free the text encoder's memory once every prompt was encoded (11 GB in bfloat16, Wan2.2-TI2V-5B)."""
        self.text_encoder = None

    @torch.no_grad()
    def encode_videos(self, videos: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Normalised latents of frames.

        Args:
            videos: uint8 `[batch, frames, height, width, 3]`.

        Returns:
            float32 `[batch, channels, latent frames, height / f, width / f]`, the mode of the codec's posterior.
        """
        pixels = torch.as_tensor(np.ascontiguousarray(videos)).to(self.device)

        def encode(share: slice, core: int) -> torch.Tensor:
            codec = self._codec(core)
            frames = (chunk.permute(0, 4, 1, 2, 3) for chunk in pixels[share].split(self.codec_batch))
            return torch.cat(
                [codec.encode(chunk.to(codec.dtype) / 127.5 - 1).latent_dist.mode().float() for chunk in frames]
            )

        mean, std = latent_statistics(self.vae)
        latents = (torch.cat(self.cores.spread(encode, len(pixels))) - mean) / std
        if self.given is not None:
            self.given.keep(latents[:, :, :1], pixels[:, 0].cpu().numpy())
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Frames uint8 `[batch, frames, height, width, 3]` of normalised latents."""
        mean, std = latent_statistics(self.vae)
        scaled = latents.float() * std + mean

        def decode(share: slice, core: int) -> torch.Tensor:
            codec, decoded = self._codec(core), []
            for chunk in scaled[share].split(self.codec_batch):
                frames = codec.decode(chunk.to(codec.dtype)).sample.float()
                decoded.append(((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).cpu())
            return torch.cat(decoded)

        return torch.cat(self.cores.spread(decode, len(scaled))).numpy()

    def _codec(self, core: int) -> AutoencoderKLWan:
        """The codec for one core: diffusers keeps the frames before in it while it works, so no two may share one."""
        if not self._codecs:
            self._codecs = [self.vae, *(copy.deepcopy(self.vae) for _ in range(self.cores.count - 1))]
        return self._codecs[core]

    def condition(self, first_frames: np.ndarray, prompts: Sequence[str]) -> Condition:
        """The condition for given images uint8 `[batch, height, width, 3]` and prompts."""
        return Condition(
            first_latent=self.encode_videos(first_frames[:, None]), prompt_embeds=self.encode_prompts(prompts)
        )

    # Velocity

    def mask(self, latents: torch.Tensor) -> torch.Tensor:
        """1 on generated elements, 0 on the conditioning frame if there is one: `[1, 1, latent frames, 1, 1]`."""
        mask = torch.ones(1, 1, latents.shape[2], 1, 1, device=latents.device)
        if self.given is None:
            mask[:, :, 0] = 0
        return mask

    def velocity(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor | float,
        condition: Condition,
        transformer: torch.nn.Module | None = None,
    ) -> torch.Tensor:
        """The model's velocity ``noise - x0``, float32 in x's shape; zero on the conditioning frame.

        Args:
            x: latents at sigma, `[batch, channels, frames, height, width]`.
            sigma: noise level, a float or `[batch]`.
            condition: of the same batch.
            transformer: another transformer than the model's own (a reference, a compiled or a wrapped one).

        Without gradients the batch is spread over the cores; with them that is the caller's (`backward`).
        """
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0])
        if torch.is_grad_enabled():
            return self._velocity(x, sigma, condition, transformer)

        def velocity(share: slice, core: int) -> torch.Tensor:
            return self._velocity(x[share], sigma[share], condition.take(share), transformer)

        return torch.cat(self.cores.spread(velocity, len(x)))

    def _velocity(
        self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition, transformer: torch.nn.Module | None
    ) -> torch.Tensor:
        dtype, mask = self.transformer.dtype, self.mask(x)
        tokens = None
        if self.given is None:
            _, patch_h, patch_w = self.transformer.config.patch_size
            tokens_per_frame = (x.shape[3] // patch_h) * (x.shape[4] // patch_w)
            per_frame = sigma[:, None] * TIMESTEPS * mask.view(1, -1)
            timestep = per_frame.repeat_interleave(tokens_per_frame, dim=1)
            hidden = mask * x + (1 - mask) * condition.first_latent
        else:
            image = self.given.of(condition.first_latent, x.shape[2])
            timestep, hidden = sigma * TIMESTEPS, torch.cat([x, image.channels], 1)
            tokens = None if image.tokens is None else image.tokens.to(dtype)
        # Frozen bfloat16 weights with a float32 adapter: its products are bfloat16 too, in rollouts as in updates.
        with torch.autocast(x.device.type, dtype) if dtype is torch.bfloat16 else nullcontext():
            output = (transformer or self.transformer)(
                hidden_states=hidden.to(dtype),
                timestep=timestep,
                encoder_hidden_states=condition.prompt_embeds.to(dtype),
                encoder_hidden_states_image=tokens,
                return_dict=False,
            )[0]
        return output.float() * mask

    def initial_noise(self, seeds: Sequence[int], frames: int, height: int, width: int) -> torch.Tensor:
        """Standard normal latents, one generator a video, so that a video does not depend on its batch."""
        factor = self.vae.config.scale_factor_spatial
        shape = (self.vae.config.z_dim, self.latent_frames(frames), height // factor, width // factor)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(noise).to(self.device)

    @torch.no_grad()
    def sample(
        self,
        first_frames: np.ndarray,
        prompts: Sequence[str],
        *,
        frames: int,
        steps: int,
        seeds: Sequence[int],
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Videos by the ODE, deterministic by seed: uint8 `[batch, frames, height, width, 3]`.

        Args:
            first_frames: given images, uint8 `[batch, height, width, 3]`.
            prompts: one a video.
            frames: frames to make, 4k + 1.
            steps: denoising steps.
            seeds: one a video.
            batch_size: videos per forward pass; by default the model's `sample_batch`.
        """
        self.transformer.eval()
        videos = []
        height, width = first_frames.shape[1:3]
        size = batch_size or self.sample_batch
        for start in range(0, len(prompts), size):
            part = slice(start, start + size)
            condition = self.condition(first_frames[part], prompts[part])
            noise = self.initial_noise(seeds[part], frames, height, width)
            grid = sigma_grid(steps, self.shift)
            videos.append(self.decode(ode_sample(self, noise, condition, grid)))
        return np.concatenate(videos)
