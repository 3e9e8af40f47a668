"""Prepare the diffusers pipeline folder that training starts from, and store it."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from wan_r1.prepare_model.config import PrepareModelConfig
from wan_r1.progress import Progress
from wan_r1.runtime import StageClock
from wan_r1.storage import checkpoints, locations
from wan_r1.video_model.reference import ModelReference


def run(config: PrepareModelConfig, *, storage_uri: str, model: Path) -> dict:
    """Store the pipeline folder and write its reference.

    Args:
        config: names the source.
        storage_uri: where the folder is stored, below ``models/``; the same content is stored once.
        model: file for the `ModelReference`.

    Returns:
        The stage's summary.

    Raises:
        ModelFolderError: if the source is no Wan image-to-video pipeline.
        StorageError: if the storage refuses.
    """
    with StageClock(config.STAGE) as clock, Progress(config.STAGE) as progress:
        locations.check_writable(storage_uri)
        if config.source.startswith("s3://"):
            uri = _checked_remote(config.source)
        else:
            with tempfile.TemporaryDirectory(prefix="wan-r1-prepare-") as scratch:
                folder = _local_folder(config, Path(scratch), progress)
                progress.note(f"storing {folder.name} in {storage_uri}")
                uri = _store(folder, storage_uri)
        progress.note(f"model {config.source} is at {uri}")
    reference = ModelReference(
        name="base",
        base_uri=uri,
        frames=config.frames,
        max_prompt_tokens=config.max_prompt_tokens,
        stage=clock.summary(),
    )
    reference.write(model)
    return {**clock.summary(), "base_uri": uri, "config_hash": config.hash}


def _local_folder(config: PrepareModelConfig, scratch: Path, progress: Progress) -> Path:
    """The source as a checked local folder."""
    from wan_r1.video_model.loading import ModelFolderError, check_pipeline_folder

    if config.source == "tiny":
        from wan_r1.video_model.tiny import tiny_pipeline

        progress.note("building the tiny Wan")
        folder = scratch / "tiny"
        tiny_pipeline(config.seed).save_pretrained(folder)
        return folder
    path = Path(config.source).expanduser()
    if path.exists() or config.source.startswith(("/", ".", "~")) or config.source.count("/") != 1:
        check_pipeline_folder(path)
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    progress.note(f"downloading {config.source} from the hub")
    try:
        folder = Path(snapshot_download(config.source))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelFolderError(
            f"model_source={config.source!r} is no local folder and could not be fetched from the hub ({error}); give "
            "a folder, an s3:// URI, or a hub id such as Wan-AI/Wan2.2-TI2V-5B-Diffusers (with HF_TOKEN if it is gated)"
        ) from error
    check_pipeline_folder(folder)
    return folder


def _checked_remote(uri: str) -> str:
    """An S3 folder, checked by its index alone: weights of many gigabytes stay where they are."""
    from wan_r1.video_model.loading import ModelFolderError

    if not locations.exists(locations.join(uri, "model_index.json")):
        raise ModelFolderError(
            f"model_source={uri!r} has no model_index.json; expected a diffusers folder of WanImageToVideoPipeline"
        )
    return uri


def _store(folder: Path, storage_uri: str) -> str:
    """Upload a folder under the hash of its content, with a manifest; nothing is sent if it is there."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }
    digest = hashlib.sha256()
    for name, path in files.items():
        with path.open("rb") as opened:
            digest.update(f"{name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    prefix = locations.join(storage_uri, "models", digest.hexdigest()[:16])
    return checkpoints.save(prefix, step=0, files=files, info={"kind": "pipeline"})
