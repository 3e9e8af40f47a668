"""The table of scores that an evaluation writes and reports read: one row a video, with the video and its verdict."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"

SCORES_FILE = "scores.parquet"
"""Name of the table in an evaluation's folder."""

SUMMARY_FILE = "summary.json"
"""Name of the rates in an evaluation's folder."""

_MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_VIOLATION = pa.struct([("kind", pa.string()), ("frame", pa.int32()), ("place", pa.list_(pa.int32()))])
_COMPONENT = pa.struct([("name", pa.string()), ("value", pa.float32())])


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


SCORES_SCHEMA = pa.schema(
    [
        _field("model", pa.string(), "base, sft, sft_continued, grpo or grpo:<reward>"),
        _field("family", pa.string(), "family of the level"),
        _field("difficulty", pa.string(), "easy, medium or hard"),
        _field("texture", pa.string(), "name of the texture it is drawn in"),
        _field("split", pa.string(), "split of the data set"),
        _field("level_id", pa.string(), "content hash of the level"),
        _field("seed", pa.int64(), "seed of the video's noise, the same for every model"),
        _field("prompt", pa.string(), "what the model was told"),
        _field("video", _MEDIA, "the generated video"),
        _field("reference", _MEDIA, "the solution's video", nullable=True),
        _field("em", pa.bool_(), "exact match; false for a video that cannot be read"),
        _field("sr", pa.bool_(), "success; false for a video that cannot be read"),
        _field("pr", pa.float32(), "precision rate in [0, 1]; 0 for a video that cannot be read"),
        _field("sd", pa.float32(), "step deviation; null without success", nullable=True),
        _field("mf", pa.float32(), "fidelity in [0, 1]; 0 for a video that cannot be read"),
        _field("vr_bench_em", pa.bool_(), "exact match as VR-Bench measures it", nullable=True),
        _field("vr_bench_sr", pa.bool_(), "success as VR-Bench measures it", nullable=True),
        _field("vr_bench_pr", pa.float32(), "precision rate as VR-Bench measures it", nullable=True),
        _field("vr_bench_sd", pa.float32(), "step deviation as VR-Bench measures it", nullable=True),
        _field("vr_bench_mf", pa.float32(), "fidelity as VR-Bench measures it", nullable=True),
        _field("reward", pa.float32(), "verified reward in [0, 1]"),
        _field("reward_components", pa.list_(_COMPONENT), "what the reward is made of"),
        _field("violations", pa.list_(_VIOLATION), "every broken rule: kind, frame, place (row, column)"),
        _field("error", pa.string(), "why the video could not be read", nullable=True),
    ],
    metadata={"wan_r1.schema": "scores", "wan_r1.schema_version": SCHEMA_VERSION},
)
"""One row a video; written with this metadata, checked on reading."""

FACTS = ("em", "sr", "pr", "sd", "mf", "vr_bench_em", "vr_bench_sr", "vr_bench_pr", "vr_bench_sd", "vr_bench_mf")
"""Columns that are a verdict's fields of the same name."""
