"""``wan-r1 score`` on every family: what cannot be read is an error in its row, beside videos that are scored."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from wan_r1 import score
from wan_r1.tasks.dataset import Task, make_task, write_tasks
from wan_r1.tasks.video import encode_video

GRID = {"frames": 17, "size": 64, "canvas": 4, "steps_per_frame": 0.5}
ROAD = {"frames": 33, "size": 64, "canvas": 8, "steps_per_frame": 0.75}
FORMS = {"regular": GRID, "trapfield": GRID, "sokoban": GRID, "irregular": ROAD, "maze3d": ROAD}
SAYS = {
    "nan.npy": "nan or infinite",
    "no_frames.npy": "0 frames",
    "one_frame.npy": "at least 2 are needed",
    "one_channel.npy": "64, 64, 1]",
    "wrong_size.npy": "frames are 32 x 32 px, the level's first frame 64 x 64",
    "wide.npy": "frames are 64 x 32 px",
    "wrong_first_frame.npy": "frame 0 is not the given image",
    "first_frame_is_black.npy": "frame 0 is not the given image",
    "grey.mkv": "one channel (gray)",
    "truncated.mp4": "no readable video",
    "empty.mp4": "no readable video",
}


def broken(task: Task, folder: Path) -> None:
    """One file for each entry of `SAYS`."""
    video, name = task.video, task.level_id
    look = next(look for look in ("night", "plain") if look != task.texture)
    other = make_task(task.family, "easy", look, seed=4, split="test", index=7, **FORMS[task.family])
    black = video.copy()
    black[0] = 0
    arrays = {
        "nan": np.full(video.shape, np.nan, np.float32),
        "no_frames": video[:0],
        "one_frame": video[:1],
        "one_channel": video[..., :1],
        "wrong_size": video[:, ::2, ::2],
        "wide": video[:, :, ::2],
        "wrong_first_frame": other.video,
        "first_frame_is_black": black,
    }
    for key, array in arrays.items():
        np.save(folder / f"{name}_{key}.npy", array)
    whole = encode_video(video, 8, lossless=True)
    (folder / f"{name}_truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / f"{name}_empty.mp4").write_bytes(b"")
    with av.open(str(folder / f"{name}_grey.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "gray"
        for image in video[..., 1]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")))
        container.mux(stream.encode())


@pytest.mark.parametrize("family", FORMS)
def test_broken_videos_are_errors_beside_scores(family: str, tmp_path: Path) -> None:
    task = make_task(family, "easy", "plain", seed=3, split="test", index=0, **FORMS[family])
    write_tasks([task], tmp_path / "dataset" / "test.parquet")
    videos = tmp_path / "videos"
    videos.mkdir()
    broken(task, videos)
    (videos / f"{task.level_id}.mp4").write_bytes(encode_video(task.video, 8, lossless=True))
    np.save(videos / f"{task.level_id}_still.npy", task.video[:1].repeat(task.frames, 0))
    score.run(videos=videos, dataset=tmp_path / "dataset", output=tmp_path / "out")
    rows = {row["video"]: row for row in pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()}
    assert len(rows) == len(SAYS) + 2
    metrics = [f"{prefix}{metric}" for prefix in ("", "vr_bench_") for metric in ("em", "sr", "pr", "sd", "mf")]
    for name, says in SAYS.items():
        row = rows[f"{task.level_id}_{name}"]
        assert row["status"] == "error" and says in row["error"], (name, row["error"])
        assert all(row[metric] is None for metric in metrics) and row["violations"] is None
    solved, still = rows[f"{task.level_id}.mp4"], rows[f"{task.level_id}_still.npy"]
    assert solved["status"] == still["status"] == "ok"
    assert solved["em"] and solved["mf"] >= 0.99 and not still["em"] and still["pr"] == 0 and still["mf"] >= 0.99
