"""The one schema of a data set of levels, with its version.

Videos and images are ``struct<bytes, path>``, which Hugging Face ``datasets`` reads as ``Video`` and ``Image``.
"""

from __future__ import annotations

import json

import pyarrow as pa

SCHEMA_VERSION = "1"

SPLITS = ("train", "validation", "prompts", "test", "harder")
"""`train` has demonstrations; `prompts` are levels for reinforcement learning that have none (`video` is null, levels
of the harder difficulties); `validation` picks checkpoints; `test` and `harder` are reported."""


class DataContractError(ValueError):
    """A data set breaks its contract; the message names the file, the row where there is one, and the rule."""


_MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_FIELDS = pa.schema(
    [
        _field("level_id", pa.string(), "content hash of the level, 16 hexadecimal digits"),
        _field("family", pa.string(), "family of the level, such as regular or trapfield"),
        _field("difficulty", pa.string(), "easy, medium or hard"),
        _field("texture", pa.string(), "name of the texture it is drawn in"),
        _field("split", pa.string(), "train, validation, prompts, test or harder"),
        _field("index", pa.int64(), "place within (family, split)"),
        _field("prompt", pa.string(), "what the video model is told"),
        # Never null by contract; declared so because `datasets` recognises only nullable columns as images.
        _field("first_frame", _MEDIA, "PNG of frame 0", nullable=True),
        _field("video", _MEDIA, "the solution's video, null in the split prompts", nullable=True),
        _field("frames", pa.int32(), "frames of the video, 4k + 1"),
        _field("height", pa.int32(), "pixels"),
        _field("width", pa.int32(), "pixels"),
        _field("fps", pa.float32(), "frames per second"),
        _field("state", pa.string(), "the level as JSON"),
        _field(
            "solution",
            pa.list_(pa.list_(pa.int32())),
            "places from start to goal, such as (row, column); in the family navigation (x, y) in centimetres",
        ),
        _field("steps", pa.int32(), "moves of the shortest solution"),
        _field("shortest_solutions", pa.int64(), "number of equally short solutions; 1 by contract"),
        _field(
            "trajectory",
            pa.list_(pa.list_(pa.float32())),
            "player centre (x, y) per frame, fractions of the frame; in the family navigation the camera's pose: "
            "x and y in metres, heading in radians",
        ),
    ]
)


def _features() -> str:
    """What Hugging Face ``datasets`` looks for in a Parquet file: which columns to decode as images and videos."""
    features = {}
    for field in _FIELDS:
        feature: dict[str, object]
        kind, depth = field.type, 0
        while pa.types.is_list(kind):
            kind, depth = kind.value_type, depth + 1
        if field.name in ("first_frame", "video"):
            feature = {"_type": "Image" if field.name == "first_frame" else "Video"}
        else:
            feature = {"dtype": {"float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}
        for _ in range(depth):
            feature = {"feature": feature, "_type": "List"}
        features[field.name] = feature
    return json.dumps({"info": {"features": features}})


TASK_SCHEMA = _FIELDS.with_metadata(
    {"wan_r1.schema": "tasks", "wan_r1.schema_version": SCHEMA_VERSION, "huggingface": _features()}
)
"""One row a level; written with this metadata. Readers check the version and the columns."""


def schema_faults(found: pa.Schema) -> list[str]:
    """What keeps a file with the schema ``found`` from being read as `TASK_SCHEMA`; empty if nothing does."""
    metadata = found.metadata or {}
    kind, version = (metadata.get(key, b"nothing").decode() for key in (b"wan_r1.schema", b"wan_r1.schema_version"))
    faults = []
    if (kind, version) != ("tasks", SCHEMA_VERSION):
        faults.append(f"wan_r1.schema={kind}, version {version}; expected tasks, version {SCHEMA_VERSION}")
    for field in TASK_SCHEMA:
        if field.name not in found.names:
            faults.append(f"the column {field.name!r} is missing")
        elif found.field(field.name).type != field.type:
            faults.append(f"the column {field.name!r} is {found.field(field.name).type}; expected {field.type}")
    return faults
