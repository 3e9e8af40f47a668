"""Checkpoints: files under a step's prefix and a manifest, written last, that makes them one thing.

Layout: ``<prefix>/step-00000100/<file>`` and ``<prefix>/step-00000100/manifest.json`` with size and SHA-256 of every
file. The manifest is written with ``If-None-Match: *`` after all files. What has no manifest does not exist, so a
stage that is killed while it writes leaves nothing that a reader could take for a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_r1.storage import locations
from wan_r1.storage.errors import StorageError

MANIFEST = "manifest.json"
_VERSION = 1
_STEP = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint."""

    uri: str
    """Its prefix, such as ``s3://bucket/run/train_sft/step-00000100``."""
    step: int
    """The training step after which it was written."""
    info: dict[str, Any]
    """What the writer says about it: JSON values only."""
    files: dict[str, str]
    """SHA-256 in hexadecimal digits of each file, by name."""


def save(prefix: str | Path, *, step: int, files: Mapping[str, bytes | Path], info: dict[str, Any]) -> str:
    """Write a checkpoint. Saving the same content at the same step again changes nothing.

    Args:
        prefix: place of all checkpoints of a training run.
        step: the training step, from 0 to 99999999.
        files: content, or a local file that holds it, by name (a name may have slashes).
        info: anything in JSON that belongs to it.

    Returns:
        The checkpoint's URI.

    Raises:
        StorageError: if it cannot be written, or if another checkpoint exists at this step.
    """
    if not 0 <= step <= 99_999_999:
        raise StorageError(f"step={step} is not allowed; expected 0 to 99999999")
    for name in files:
        if name == MANIFEST or name.startswith("/") or ".." in name.split("/"):
            raise StorageError(f"a checkpoint cannot have a file named {name!r}")
    uri = locations.join(prefix, f"step-{step:08d}")
    entries = {name: _entry(content) for name, content in sorted(files.items())}
    manifest = {"version": _VERSION, "step": step, "files": entries, "info": info}
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    place = locations.join(uri, MANIFEST)
    if not locations.exists(place):
        for name, content in files.items():
            target = locations.join(uri, name)
            if isinstance(content, bytes):
                locations.write_bytes(target, content)
            else:
                locations.upload_file(content, target)
        if locations.write_bytes(place, text, if_absent=True):
            return uri
    # A retried request may have written it the first time: only other content is a conflict.
    if json.loads(locations.read_bytes(place)) != json.loads(text):
        raise StorageError(
            f"cannot write checkpoint {uri}: another one with other content exists; "
            "give this run its own place or remove that checkpoint"
        )
    return uri


def steps(prefix: str | Path) -> list[Checkpoint]:
    """All complete checkpoints below a prefix, by step; one that lacks a file counts as absent."""
    places = set(locations.list_files(prefix))
    found = []
    for place in sorted(places):
        folder, _, name = place.rpartition("/")
        if name == MANIFEST and _STEP.fullmatch(folder.rpartition("/")[2]):
            checkpoint = read(folder)
            if all(locations.join(folder, file) in places for file in checkpoint.files):
                found.append(checkpoint)
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def latest(prefix: str | Path) -> Checkpoint | None:
    """The complete checkpoint of the highest step below a prefix, or ``None``."""
    found = steps(prefix)
    return found[-1] if found else None


def read(uri: str) -> Checkpoint:
    """What a checkpoint's manifest says, without its files.

    Raises:
        StorageError: if there is no manifest or it is damaged.
    """
    place = locations.join(uri, MANIFEST)
    try:
        manifest = json.loads(locations.read_bytes(place))
        version, step = manifest["version"], int(manifest["step"])
        files = {name: str(entry["sha256"]) for name, entry in manifest["files"].items()}
        info = dict(manifest["info"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{place} is no checkpoint manifest ({error}); remove its folder to use an earlier one"
        ) from error
    if version != _VERSION:
        raise StorageError(f"{place} has format version {version}; this program reads version {_VERSION}")
    return Checkpoint(uri=str(uri).rstrip("/"), step=step, info=info, files=files)


def load(uri: str, folder: Path) -> Checkpoint:
    """Download a checkpoint's files and check them.

    Args:
        uri: as `save` returned it.
        folder: local folder for its files, made if need be.

    Raises:
        StorageError: naming the file whose content differs from the manifest's SHA-256.
    """
    checkpoint = read(uri)
    for name, expected in checkpoint.files.items():
        path = folder / name
        locations.download_file(locations.join(checkpoint.uri, name), path)
        if _sha256(path) != expected:
            path.unlink()
            raise StorageError(
                f"{locations.join(checkpoint.uri, name)} is damaged: its SHA-256 is not the manifest's; "
                f"remove {checkpoint.uri} to use an earlier checkpoint"
            )
    return checkpoint


def _entry(content: bytes | Path) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"sha256": _sha256(content), "bytes": content.stat().st_size}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
