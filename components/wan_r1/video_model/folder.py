"""What a diffusers folder of a Wan image-to-video pipeline must hold, read from its JSON files without any weights.

Three kinds are known, by how the given image enters (facts of diffusers' ``pipeline_wan_i2v.py``):

- Wan2.2-TI2V (``expand_timesteps``): as the first latent frame, clean, at timestep 0;
- Wan2.1-I2V: as further input channels, a mask and the latents of the image followed by grey frames, and, where the
  transformer has an ``image_dim``, as tokens of a CLIP image encoder;
- Wan2.2-I2V-A14B: as further input channels, with two transformers that share the noise levels (``boundary_ratio``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
"""Folders that every Wan image-to-video pipeline has."""

IMAGE_PARTS = ("image_encoder", "image_processor")
"""Folders of a pipeline whose transformer attends to the given image's tokens."""

IMAGE_PROMPT_TOKENS = 512
"""Prompt tokens of a transformer with image tokens: diffusers splits the two at this number, whatever the prompt."""

_EXPECTED = "expected a diffusers folder of WanImageToVideoPipeline (as its save_pretrained writes it)"


class ModelFolderError(ValueError):
    """A folder is not the diffusers pipeline that it should be."""


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """What decides how a pipeline is loaded.

    Attributes:
        expand_timesteps: the given image is the first latent frame; else it is concatenated to the channels.
        boundary_ratio: sigma from which on `transformer` works, `transformer_2` below; None with one transformer.
        image_tokens: the transformer attends to the tokens of an image encoder.
    """

    expand_timesteps: bool
    boundary_ratio: float | None
    image_tokens: bool


def check_pipeline_folder(
    folder: Path | str,
    parameter: str = "model_source",
    *,
    max_prompt_tokens: int | None = None,
    shown: str = "",
) -> FolderFacts:
    """Check that a local folder is a Wan image-to-video pipeline that can be trained, without loading weights.

    Args:
        folder: a local folder.
        parameter: its name in messages.
        max_prompt_tokens: tokens that prompts will be padded to, checked against the transformer's; None does not.
        shown: what the folder is called in messages; by default its path.

    Raises:
        ModelFolderError: naming the parameter, the folder, what is wrong and what is expected.
    """
    folder = Path(folder)
    named = f"{parameter}={(shown or str(folder))!r}"
    if not (folder / "model_index.json").is_file():
        raise ModelFolderError(f"{named} has no model_index.json; {_EXPECTED}")
    index = _json(folder / "model_index.json", named)
    kind = index.get("_class_name")
    if kind not in ("WanImageToVideoPipeline", "WanPipeline"):
        raise ModelFolderError(f"{named} is a {kind}; {_EXPECTED}")
    boundary = index.get("boundary_ratio")
    _require_parts(folder, named, (*PARTS, *(("transformer_2",) if boundary is not None else ())))
    transformer = _json(folder / "transformer" / "config.json", named)
    codec = _json(folder / "vae" / "config.json", named)
    facts = FolderFacts(
        expand_timesteps=bool(index.get("expand_timesteps")),
        boundary_ratio=boundary,
        image_tokens=transformer.get("image_dim") is not None,
    )
    _check_channels(named, facts, transformer, codec)
    if boundary is not None:
        if not 0 < boundary < 1:
            raise ModelFolderError(f"{named} has boundary_ratio={boundary}; expected a noise level between 0 and 1")
        _check_experts(named, transformer, _json(folder / "transformer_2" / "config.json", named))
    if facts.image_tokens:
        _require_parts(folder, named, IMAGE_PARTS)
        if transformer.get("pos_embed_seq_len") is not None:
            raise ModelFolderError(
                f"{named} is conditioned on a first and a last frame; {_EXPECTED} of one given frame"
            )
        if max_prompt_tokens not in (None, IMAGE_PROMPT_TOKENS):
            raise ModelFolderError(
                f"{named} attends to image tokens, which diffusers expects before exactly {IMAGE_PROMPT_TOKENS} prompt "
                f"tokens; model_max_prompt_tokens={max_prompt_tokens} must be {IMAGE_PROMPT_TOKENS}"
            )
    return facts


def _require_parts(folder: Path, named: str, parts: tuple[str, ...]) -> None:
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise ModelFolderError(f"{named} lacks {', '.join(missing)}; {_EXPECTED}")


def _check_channels(named: str, facts: FolderFacts, transformer: dict[str, Any], codec: dict[str, Any]) -> None:
    """The transformer's input channels against what its kind of conditioning needs."""
    z, mask = codec.get("z_dim", 16), codec.get("scale_factor_temporal", 4)
    channels, expected = transformer.get("in_channels", 16), z if facts.expand_timesteps else 2 * z + mask
    if channels == expected:
        return
    if facts.expand_timesteps:
        needs = f"expand_timesteps needs {z}, the codec's"
    elif channels == z:
        needs = (
            f"those of the latents alone: it is a text-to-video model; an image needs {z} + {mask} + {z} = {expected}"
        )
    else:
        needs = f"an image concatenated to the latents needs {z} + {mask} + {z} = {expected}"
    raise ModelFolderError(f"{named}: its transformer has {channels} input channels; {needs}")


def _check_experts(named: str, high: dict[str, Any], low: dict[str, Any]) -> None:
    for field in ("in_channels", "out_channels", "patch_size", "image_dim", "text_dim"):
        if high.get(field) != low.get(field):
            raise ModelFolderError(
                f"{named}: {field} is {high.get(field)} in transformer and {low.get(field)} in transformer_2; expected "
                "two transformers that take the same inputs"
            )


def _json(path: Path, named: str) -> dict[str, Any]:
    name = path.name if path.parent.name not in (*PARTS, "transformer_2") else f"{path.parent.name}/{path.name}"
    try:
        return json.loads(path.read_text())
    except OSError:
        raise ModelFolderError(f"{named} lacks {name}; {_EXPECTED}") from None
    except ValueError as error:
        raise ModelFolderError(f"{named}: {name} is no JSON ({error})") from None
