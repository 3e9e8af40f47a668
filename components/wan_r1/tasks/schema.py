"""The one schema of a data set of levels, with its version.

Videos and images are ``struct<bytes, path>``, which Hugging Face ``datasets`` reads as ``Video`` and ``Image``.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"

SPLITS = ("train", "validation", "prompts", "test", "harder")
"""`train` has demonstrations; `prompts` are levels for reinforcement learning that have none (`video` is null, levels of
the harder difficulties); `validation` picks checkpoints; `test` and `harder` are reported."""

_MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


TASK_SCHEMA = pa.schema(
    [
        _field("level_id", pa.string(), "content hash of the level, 16 hexadecimal digits"),
        _field("family", pa.string(), "family of the level, such as regular or trapfield"),
        _field("difficulty", pa.string(), "easy, medium or hard"),
        _field("texture", pa.string(), "name of the texture it is drawn in"),
        _field("split", pa.string(), "train, validation, prompts, test or harder"),
        _field("index", pa.int64(), "place within (family, split)"),
        _field("prompt", pa.string(), "what the video model is told"),
        _field("first_frame", _MEDIA, "PNG of frame 0"),
        _field("video", _MEDIA, "the solution's video, null in the split prompts", nullable=True),
        _field("frames", pa.int32(), "frames of the video, 4k + 1"),
        _field("height", pa.int32(), "pixels"),
        _field("width", pa.int32(), "pixels"),
        _field("fps", pa.float32(), "frames per second"),
        _field("state", pa.string(), "the level as JSON"),
        _field("solution", pa.list_(pa.list_(pa.int32())), "places from start to goal; (row, column) in grid families"),
        _field("steps", pa.int32(), "moves of the shortest solution"),
        _field("shortest_solutions", pa.int64(), "number of equally short solutions; 1 by contract"),
        _field(
            "trajectory", pa.list_(pa.list_(pa.float32())), "player centre (x, y) per frame, fractions of the frame"
        ),
    ],
    metadata={"wan_r1.schema": "tasks", "wan_r1.schema_version": SCHEMA_VERSION},
)
"""One row a level; written with this metadata, checked on reading."""
