"""``wan-r1 score``: videos of any tool against both layouts; what cannot be read is an error in its row."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from vr_bench_example import BOARDS, draw, level_of, resized, save, write_dataset
from vr_bench_skins import SKINS

from wan_r1 import cli
from wan_r1.score import SCORE_SCHEMA
from wan_r1.tasks.dataset import make_task, write_tasks
from wan_r1.tasks.video import encode_video

FORM = {"frames": 17, "size": 64, "canvas": 4, "steps_per_frame": 0.5}


def rows_of(output: Path) -> dict[str, dict]:
    table = pq.read_table(output / "scores.parquet")
    assert table.schema.names == SCORE_SCHEMA.names and table.schema.metadata == SCORE_SCHEMA.metadata
    return {row["video"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def tasks():
    return [
        make_task(family, "medium", texture, seed=3, split="test", index=index, **FORM)
        for family in ("regular", "trapfield")
        for index in range(3)
        for texture in (("night", "plain")[index % 2],)
    ]


@pytest.fixture(scope="module")
def scored(tasks, tmp_path_factory) -> Path:
    """A folder of good, bad and broken videos, scored through the installed program."""
    root = tmp_path_factory.mktemp("score")
    write_tasks(tasks, root / "dataset" / "test.parquet")
    videos = root / "videos"
    videos.mkdir()
    for task in tasks[:4]:
        (videos / f"{task.level_id}.mp4").write_bytes(encode_video(task.video, 8, lossless=True))
    task = tasks[0]
    whole = encode_video(task.video, 8, lossless=True)
    teleport = task.video.copy()
    teleport[1:] = task.video[-1]
    grey = task.video[..., 1]
    other = next(t for t in tasks if t.texture != task.texture)
    arrays = {
        "teleport": teleport,
        "frozen": np.repeat(task.video[:1], task.frames, axis=0),
        "nan": np.full(task.video.shape, np.nan, np.float32),
        "floats": task.video.astype(np.float32) / 255,
        "no_frames": task.video[:0],
        "one_channel": grey[..., None],
        "wrong_size": np.repeat(np.repeat(task.video, 2, 1), 2, 2),
        "wrong_first_frame": other.video,
    }
    for name, array in arrays.items():
        np.save(videos / f"{task.level_id}_{name}.npy", array)
    with av.open(str(videos / f"{task.level_id}_grey.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "gray"
        for image in grey:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (videos / f"{task.level_id}_truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / f"{task.level_id}_empty.mp4").write_bytes(b"")
    (videos / f"{task.level_id}_words.mp4").write_text("no video at all")
    (videos / "0123456789abcdef.mp4").write_bytes(whole)
    (videos / "notes.txt").write_text("not a video, not listed")
    command = [sys.executable, "-m", "wan_r1.cli", "score", str(videos), "--dataset", str(root / "dataset")]
    ended = subprocess.run([*command, "--output", str(root / "out")], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert '"errors": 11' in ended.stdout
    return root / "out"


def test_solutions_are_solutions_and_cheats_are_not(scored, tasks):
    rows = rows_of(scored)
    for task in tasks[:4]:
        row = rows[f"{task.level_id}.mp4"]
        assert (row["status"], row["error"], row["level"]) == ("ok", None, task.level_id)
        assert row["em"] and row["sr"] and row["pr"] == 1 and row["sd"] == 0 and row["mf"] >= 0.99
        assert row["vr_bench_em"] and row["vr_bench_sr"] and row["vr_bench_pr"] == 1 and row["vr_bench_mf"] > 0.95
        assert row["violations"] == [] and row["frames"] == 17
    teleport = rows[f"{tasks[0].level_id}_teleport.npy"]
    assert teleport["status"] == "ok" and not teleport["sr"] and teleport["vr_bench_sr"]
    assert teleport["violations"][0]["kind"] == "jump" and teleport["violations"][0]["frame"] == 1
    assert tuple(teleport["violations"][0]["place"]) == tasks[0].level.goal
    assert rows[f"{tasks[0].level_id}_frozen.npy"]["pr"] == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan.npy", "nan or infinite"),
        ("floats.npy", "frames have type float32"),
        ("no_frames.npy", "0 frames"),
        ("one_channel.npy", "[17, 64, 64, 1]"),
        ("grey.mkv", "one channel (gray)"),
        ("wrong_size.npy", "frames are 128 x 128 px, the level's first frame 64 x 64"),
        ("wrong_first_frame.npy", "frame 0 is not the given image"),
        ("truncated.mp4", "no readable video"),
        ("empty.mp4", "no readable video"),
        ("words.mp4", "no readable video"),
    ],
)
def test_a_broken_video_is_an_error_and_no_score(scored, tasks, name, says):
    row = rows_of(scored)[f"{tasks[0].level_id}_{name}"]
    assert row["status"] == "error" and says in row["error"]
    metrics = [f"{prefix}{metric}" for prefix in ("", "vr_bench_") for metric in ("em", "sr", "pr", "sd", "mf")]
    assert all(row[metric] is None for metric in metrics) and row["violations"] is None


def test_a_video_without_level_is_an_error(scored):
    row = rows_of(scored)["0123456789abcdef.mp4"]
    assert row["status"] == "error" and "no level of the data set has the id" in row["error"]
    assert "notes.txt" not in rows_of(scored)


def test_the_summary_counts_errors_and_averages_none_of_them(scored, tasks):
    summary = json.loads((scored / "summary.json").read_text())
    assert (summary["videos"], summary["errors"], summary["levels_without_video"]) == (17, 11, len(tasks) - 4)
    everything = summary["rows"][-1]
    assert everything["family"] == "all" and everything["em"] == pytest.approx(4 / 6)
    assert everything["vr_bench_sr"] == pytest.approx(5 / 6)


def test_the_page_shows_every_scored_video_with_its_violations(scored, tasks):
    page = (scored / "scores.html").read_text()
    assert page.count("<video") == 6
    assert "jump: frame 1 at" in page and "No rule broken." in page
    assert "frame 0 is not the given image" in page


def test_a_cut_off_file_that_can_be_decoded_in_part_is_an_error(tasks, tmp_path):
    """With its index in front, a cut mp4 gives its first frames: they are no video that fails."""
    write_tasks(tasks[:1], tmp_path / "dataset" / "test.parquet")
    file = tmp_path / "videos" / f"{tasks[0].level_id}.mp4"
    file.parent.mkdir()
    noisy = np.random.default_rng(0).integers(0, 256, tasks[0].video.shape, np.uint8)
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264rgb", rate=8, options={"qp": "0", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "rgb24"
        for image in noisy:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(file)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    file.write_bytes(file.read_bytes()[: ends[7]])
    words = ["score", str(file.parent), "--dataset", str(tmp_path / "dataset"), "--output", str(tmp_path / "out")]
    assert cli.main(words) == 0
    (row,) = rows_of(tmp_path / "out").values()
    assert row["status"] == "error" and "only 8 of 17 frames can be read" in row["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none", "--dataset=."], "videos=none does not exist"),
        ([".", "--dataset=none"], "dataset=none does not exist"),
        ([".", "--dataset=.", "--layout=vrbench"], "layout='vrbench' is unknown; allowed: wan-r1, vr-bench"),
        ([".", "--dataset=.", "--layout=vr-bench"], "no states/<difficulty>_<id>.json"),
        ([".", "--dataset=."], "has no Parquet file"),
        ([".", "--dataset=.", "--samples=1"], "BenchmarkRules(samples=1) is not allowed"),
    ],
)
def test_what_is_wrong_is_one_message(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["score", *words, f"--output={tmp_path / 'out'}"]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> tuple[Path, list]:
    root = tmp_path_factory.mktemp("vr_bench")
    return root, write_dataset(root / "dataset")


def score_vr_bench(root: Path, videos: Path) -> dict[str, dict]:
    output = root / f"scores of {videos.name}"
    words = ["score", str(videos), "--dataset", str(root / "dataset"), "--layout=vr-bench", "--output", str(output)]
    assert cli.main(words) == 0
    return rows_of(output)


def test_references_of_vr_bench_are_solutions_in_every_skin(benchmark):
    """The benchmark's own tracker fails on the opaque goal of its first maze skin; ours on none."""
    root, levels = benchmark
    rows = score_vr_bench(root, root / "dataset")
    assert len(rows) == len(levels) == 8
    for name, row in rows.items():
        assert row["status"] == "ok", (name, row["error"])
        assert row["em"] and row["pr"] == 1 and row["sd"] == 0, (name, row["violations"])
        assert row["mf"] >= 0.99
        assert row["vr_bench_em"] and row["vr_bench_pr"] == 1 and row["vr_bench_sd"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("skin", SKINS)
def test_references_are_solutions_in_any_skin(skin, tmp_path):
    """Opaque goal tiles, textured floors, a player that fills its tile, dark and light."""
    levels = write_dataset(tmp_path / "dataset", skins=[skin])
    rows = score_vr_bench(tmp_path, tmp_path / "dataset")
    assert len(rows) == len(levels) == 4
    for name, row in rows.items():
        assert row["status"] == "ok", (name, row["error"])
        assert row["em"] and row["sr"] and row["pr"] == 1 and row["sd"] == 0, (name, row["violations"])
        assert row["mf"] >= 0.99, (name, row["mf"])
        assert row["vr_bench_em"] and row["vr_bench_sr"] and row["vr_bench_pr"] == 1, name
        assert row["vr_bench_sd"] == pytest.approx(0, abs=0.01)


def test_generated_videos_of_another_size_and_length_are_read(benchmark, tmp_path):
    """Through 512 px, every other frame, and a name of the generating tool's own."""
    root, levels = benchmark
    for game, skin, stem, board in levels:
        video = draw(game, skin, board, list(level_of(board).solve().path))[::2]
        save(resized(video, 512), tmp_path / game / skin / f"{stem}_generated.mp4")
        still = np.repeat(video[:1], len(video), axis=0)
        save(resized(still, 512), tmp_path / game / skin / f"{stem}_still.mp4")
    rows = score_vr_bench(root, tmp_path)
    for name, row in rows.items():
        assert row["status"] == "ok", (name, row["error"])
        assert row["em"] == row["vr_bench_em"] == ("still" not in name), (name, row["violations"])
        assert row["violations"] == []


def test_several_references_are_all_compared(benchmark, tmp_path):
    """In the open field another shortest path is exact by strict rules; by the benchmark's only as a reference."""
    root, _ = benchmark
    board = BOARDS["trapfield"][0]
    level = level_of(board)
    mirrored = replace(level, blocked=tuple((c, r) for r, c in level.blocked))
    other = [(c, r) for r, c in mirrored.solve().path]
    assert other != list(level.solve().path) and all(level.open_between(a, b) for a, b in itertools.pairwise(other))
    save(draw("trapfield", "1", board, other), tmp_path / "trapfield" / "1" / "easy_0001.mp4")
    (row,) = score_vr_bench(root, tmp_path).values()
    assert row["em"] and not row["vr_bench_em"]
    second = root / "dataset" / "trapfield" / "1" / "easy" / "videos" / "easy_0001_1.mp4"
    save(draw("trapfield", "1", board, other), second)
    (row,) = score_vr_bench(root, tmp_path).values()
    second.unlink()
    assert row["em"] and row["vr_bench_em"]


def test_a_name_that_fits_several_skins_or_none_is_an_error(benchmark, tmp_path):
    root, levels = benchmark
    game, skin, _, board = levels[0]
    video = draw(game, skin, board, list(level_of(board).solve().path))
    save(video, tmp_path / "easy_0001.mp4")
    save(video, tmp_path / "hard_0009.mp4")
    rows = score_vr_bench(root, tmp_path)
    assert "4 levels are named 'easy_0001'" in rows["easy_0001.mp4"]["error"]
    assert "no level is named 'hard_0009'" in rows["hard_0009.mp4"]["error"]


def test_a_damaged_state_or_another_game_is_an_error_of_its_videos_alone(tmp_path):
    write_dataset(tmp_path / "dataset")
    folder = tmp_path / "dataset" / "maze" / "1" / "easy" / "states"
    (folder / "easy_0001.json").write_text("{")
    state = json.loads((folder / "easy_0002.json").read_text())
    (folder / "easy_0002.json").write_text(json.dumps({**state, "game_type": "chess"}))
    rows = score_vr_bench(tmp_path, tmp_path / "dataset")
    assert sum(row["status"] == "ok" for row in rows.values()) == 6
    assert "no state of VR-Bench" in rows["maze/1/easy/videos/easy_0001_0.mp4"]["error"]
    assert "game_type='chess' is not known" in rows["maze/1/easy/videos/easy_0002_0.mp4"]["error"]
