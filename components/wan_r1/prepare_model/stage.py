"""Prepare the diffusers pipeline folder that training starts from, and store it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wan_r1.prepare_model.config import PrepareModelConfig
from wan_r1.progress import Progress
from wan_r1.runtime import StageClock
from wan_r1.storage import checkpoints, locations
from wan_r1.video_model.folder import ModelFolderError, check_pipeline_folder
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
        LoraError: if an adapter is no LoRA file or does not fit.
        StorageError: if the storage refuses.
    """
    with StageClock(config.STAGE) as clock, Progress(config.STAGE) as progress:
        locations.check_writable(storage_uri)
        with tempfile.TemporaryDirectory(prefix="wan-r1-prepare-") as scratch:
            remote = config.source.startswith("s3://")
            folder = (
                _checked_remote(config, Path(scratch)) if remote else _local_folder(config, Path(scratch), progress)
            )
            adapters = _checked_adapters(config, str(folder), Path(scratch)) if config.adapters else {}
            if not remote:
                progress.note(f"storing {Path(folder).name} in {storage_uri}")
            uri = str(folder) if remote else _store(Path(folder), storage_uri)
        checkpoint = _store_adapters(adapters, storage_uri) if adapters else None
        progress.note(f"model {config.source} is at {uri}")
    reference = ModelReference(
        name="base",
        base_uri=uri,
        checkpoint_uri=checkpoint,
        frames=config.frames,
        max_prompt_tokens=config.max_prompt_tokens,
        weights=config.weights,
        gradient_checkpointing=config.gradient_checkpointing,
        compile_blocks=config.compile_blocks,
        codec_batch=config.codec_batch,
        sample_batch=config.sample_batch,
        stage=clock.summary(),
    )
    reference.write(model)
    return {**clock.summary(), "base_uri": uri, "config_hash": config.hash}


def _local_folder(config: PrepareModelConfig, scratch: Path, progress: Progress) -> Path:
    """The source as a checked local folder."""
    if config.source == "tiny":
        from wan_r1.video_model.tiny import shipped_codecs, tiny_pipeline

        progress.note("building the tiny Wan")
        folder = scratch / "tiny"
        codec = _codec_folder(config.codec, scratch, shipped_codecs()) if config.codec else None
        tiny_pipeline(config.seed, codec).save_pretrained(folder)
        return folder
    if config.source == "small":
        from wan_r1.video_model.tiny import small_pipeline

        progress.note("building a small Wan")
        folder = scratch / "small"
        small_pipeline(config.seed, _codec_folder(config.codec, scratch, {})).save_pretrained(folder)
        return folder
    path = Path(config.source).expanduser()
    if path.exists() or config.source.startswith(("/", ".", "~")) or config.source.count("/") != 1:
        check_pipeline_folder(path, max_prompt_tokens=config.max_prompt_tokens)
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
    check_pipeline_folder(folder, max_prompt_tokens=config.max_prompt_tokens)
    return folder


def _codec_folder(uri: str, scratch: Path, shipped: Mapping[str, Path]) -> Path:
    """A local folder of a trained codec: one that ships, by its name, or the user's."""
    if uri in shipped:
        return shipped[uri]
    folder = locations.local_path(uri)
    if locations.is_s3(uri):
        folder = scratch / "codec"
        locations.download_folder(uri, folder)
    if not (folder / "config.json").is_file():
        known = f", or the name of one that ships: {', '.join(shipped)}" if shipped else ""
        raise ModelFolderError(
            f"model_codec={uri!r} has no config.json; expected the folder that python -m "
            f"wan_r1.prepare_model.train_small_codec (or train_wide_codec) writes{known}"
        )
    return folder


def _checked_remote(config: PrepareModelConfig, scratch: Path) -> str:
    """An S3 folder, checked by its JSON files alone: weights of many gigabytes stay where they are."""
    uri, skeleton = config.source.rstrip("/"), scratch / "skeleton"
    skeleton.mkdir()
    for name in locations.list_files(uri):
        target = skeleton / name.removeprefix(f"{uri}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name in ("model_index.json", "config.json"):
            locations.download_file(name, target)
    check_pipeline_folder(skeleton, max_prompt_tokens=config.max_prompt_tokens, shown=config.source)
    return config.source


def _checked_adapters(config: PrepareModelConfig, folder: str, scratch: Path) -> dict[str, bytes]:
    """The adapters as a checkpoint's files, checked against the configs of the pipeline's transformers."""
    from wan_r1.video_model.diffsynth import read_lora
    from wan_r1.video_model.lora import LoraError, adapter_file, check_adapter, lora_file

    index = json.loads(locations.read_bytes(locations.join(folder, "model_index.json")))
    parts = ("transformer",) if index.get("boundary_ratio") is None else ("transformer", "transformer_2")
    if len(config.adapters) != len(parts):
        raise LoraError(
            f"model_adapters has {len(config.adapters)} files; the model has {len(parts)} transformers: give one for "
            f"each of {', '.join(parts)}"
        )
    files: dict[str, bytes] = {}
    scales = set()
    for part, uri in zip(parts, config.adapters, strict=True):
        state, rank, alpha = read_lora(_fetched(uri, scratch))
        transformer = json.loads(locations.read_bytes(locations.join(folder, part, "config.json")))
        check_adapter(state, transformer, f"model_adapters={uri!r}")
        files[lora_file(part)] = adapter_file(state, rank=rank, alpha=alpha)
        scales.add((rank, alpha))
    if len(scales) > 1:
        raise LoraError(f"model_adapters differ in rank and alpha ({sorted(scales)}); training needs one of each")
    return files


def _store_adapters(files: dict[str, bytes], storage_uri: str) -> str:
    """Upload adapters as a checkpoint over the pipeline, which a training continues and an evaluation applies."""
    digest = hashlib.sha256(b"".join(files[name] for name in sorted(files)))
    prefix = locations.join(storage_uri, "adapters", digest.hexdigest()[:16])
    return checkpoints.save(prefix, step=0, files=files, info={"kind": "adapters"})


def _fetched(uri: str, scratch: Path) -> Path:
    """A local path with the content of a file."""
    if not locations.is_s3(uri):
        return locations.local_path(uri)
    target = scratch / hashlib.sha256(uri.encode()).hexdigest()[:8]
    locations.download_file(uri, target)
    return target


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
