"""Wan through diffusers: loading, codec, conditioning, sampling, the SDE step, LoRA. Knows nothing of tasks."""

from wan_r1.video_model.reference import ModelReference

__all__ = ["ModelReference", "VideoModel", "load_video_model"]


def __getattr__(name: str):
    # torch and diffusers take seconds to import; reading a reference needs neither.
    if name == "VideoModel":
        from wan_r1.video_model.wan import VideoModel

        return VideoModel
    if name == "load_video_model":
        from wan_r1.video_model.loading import load_video_model

        return load_video_model
    raise AttributeError(name)
