"""Video files of any container: whole ones are read whole, cut ones are errors of their own rows alone."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from wan_r1 import score
from wan_r1.score.files import VideoFileError, read_video
from wan_r1.tasks.dataset import make_task, write_tasks
from wan_r1.tasks.video import encode_video

FORM = {"frames": 17, "size": 64, "canvas": 4, "steps_per_frame": 0.5}
KINDS = {
    "mkv": ("libx264", {"bf": "3"}),
    "ffv1.mkv": ("ffv1", {}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "mp4": ("libx264", {"bf": "3"}),
    "mov": ("libx264", {"bf": "3"}),
    "avi": ("mpeg4", {"bf": "2"}),
    "mjpeg.avi": ("mjpeg", {}),
}
"""Codec and options of some files by how their names end."""
FORMATS = {"mkv": "matroska"}
UNEVEN = [0, 40, 80, 500, 510, 520, *range(600, 1000, 40), 3000]
"""Milliseconds at which 17 frames of a variable rate begin."""


@pytest.fixture(scope="module")
def task():
    return make_task("regular", "medium", "plain", seed=3, split="test", index=0, **FORM)


def encoded(video: np.ndarray, kind: str, fps: float = 8, begins: list[int] | None = None, **options: str) -> bytes:
    """A video as the bytes of a file; at a variable rate if it is said when frames begin, in milliseconds."""
    codec, usual = KINDS[kind]
    file = io.BytesIO()
    name = kind.split(".")[-1]
    with av.open(file, "w", format=FORMATS.get(name, name), options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=usual)
        stream.thread_count = 1
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if begins:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(video):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=stream.pix_fmt)
            if begins:
                frame.pts, frame.time_base = begins[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read_whole_at_any_rate(kind: str, task, tmp_path: Path) -> None:
    file = tmp_path / f"whole.{kind}"
    for fps, begins in ((1, None), (8, None), (24000 / 1001, None), (60, None), (25, UNEVEN)):
        file.write_bytes(encoded(task.video, kind, fps, begins))
        assert read_video(file).shape == task.video.shape, (fps, begins)


@pytest.mark.parametrize(("kind", "shift"), [("mkv", 2), ("mp4", 2), ("mov", 2), ("mp4", -1)])
def test_a_file_that_starts_later_or_hides_its_first_second_is_whole(kind, shift, task, tmp_path: Path) -> None:
    """As programs leave it that cut a video without encoding it anew."""
    file = tmp_path / f"moved.{kind}"
    with av.open(io.BytesIO(encoded(task.video, "mp4"))) as source, av.open(str(file), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = (int(at + shift / stream.time_base) for at in (packet.pts, packet.dts))
                packet.stream = copy
                target.mux(packet)
    assert len(read_video(file)) == 17 + min(0, 8 * shift)


def test_a_file_in_fragments_is_whole_and_a_part_of_it_is_not(task, tmp_path: Path) -> None:
    whole = encoded(task.video, "mp4", movflags="frag_keyframe+empty_moov")
    file = tmp_path / "fragments.mp4"
    file.write_bytes(whole)
    assert len(read_video(file)) == 17
    file.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(VideoFileError):
        read_video(file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_a_single_byte_is_not_whole(kind: str, task, tmp_path: Path) -> None:
    file = tmp_path / f"cut.{kind}"
    file.write_bytes(encoded(task.video, kind)[:-1])
    with pytest.raises(VideoFileError, match=r"cut off|no readable video|damaged"):
        read_video(file)


def test_a_title_that_is_no_text_is_no_fault_of_the_video(task, tmp_path: Path) -> None:
    whole = encoded(task.video, "mkv")
    file = tmp_path / "titled.mkv"
    file.write_bytes(whole.replace(b"Lavf", b"\xff\xfe\xfd\xfc"))
    assert len(read_video(file)) == 17


def test_a_download_whose_rest_was_never_written_is_not_whole(task, tmp_path: Path) -> None:
    """It has its full length, so that only the time that it declares tells."""
    whole = bytearray(encoded(task.video, "ffv1.mkv"))
    with av.open(io.BytesIO(whole)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    file = tmp_path / "part.mkv"
    # From between two blocks on.
    file.write_bytes(whole[: starts[9]] + bytes(len(whole) - starts[9]))
    with pytest.raises(VideoFileError, match=r"declares 2\.125 s, but its \d+ frames last|damaged"):
        read_video(file)


def claims(shape: tuple[int, ...], there: int) -> bytes:
    """An array file whose header claims more than follows."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(there)


def test_cut_files_and_claims_are_errors_of_their_own_rows(task, tmp_path: Path) -> None:
    write_tasks([task], tmp_path / "dataset" / "test.parquet")
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / f"{task.level_id}_whole.mp4").write_bytes(encode_video(task.video, 8, lossless=True))
    for kind in KINDS:
        whole = encoded(task.video, kind)
        for percent in (50, 80, 95):
            (videos / f"{task.level_id}_{percent}.{kind}").write_bytes(whole[: len(whole) * percent // 100])
    (videos / f"{task.level_id}_huge.npy").write_bytes(claims((10**6, 10**4, 10**4, 3), 100))
    (videos / f"{task.level_id}_short.npy").write_bytes(claims(task.video.shape, task.video.size - 1))
    whole = encoded(task.video, "mov")
    (videos / f"{task.level_id}_nameless.mov").write_bytes(whole.replace(b"avc1", b"\0\0\0\0"))
    summary = score.run(videos=videos, dataset=tmp_path / "dataset", output=tmp_path / "out")
    rows = {row["video"].split("_", 1)[1]: row for row in pq.read_table(tmp_path / "out/scores.parquet").to_pylist()}
    assert (summary["videos"], summary["errors"]) == (len(rows), len(rows) - 1) == (3 * len(KINDS) + 4, len(rows) - 1)
    assert rows.pop("whole.mp4")["em"]
    for name, row in rows.items():
        assert row["status"] == "error" and row["em"] is None and row["vr_bench_em"] is None, name
    for name in ("50.ffv1.mkv", "80.ffv1.mkv", "50.webm", "80.webm", "95.mkv", "95.mjpeg.avi"):
        assert "cut off" in rows[name]["error"], (name, rows[name]["error"])
    assert "header claims uint8 [1000000, 10000, 10000, 3], 300000000000000 bytes, but 100" in rows["huge.npy"]["error"]
    assert "but 208895 follow; the file was cut off" in rows["short.npy"]["error"]
    assert "codec is not known" in rows["nameless.mov"]["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_video_that_does_not_fit_in_memory_is_its_own_error(tmp_path: Path) -> None:
    file = tmp_path / "large.npy"
    file.write_bytes(claims((2048, 1024, 1024), 0))
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size + 2**31)
    code = (
        "import resource, sys; from pathlib import Path; from wan_r1.score.files import read_video;"
        "pages = int(Path('/proc/self/statm').read_text().split()[0]);"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28,) * 2);"
        "read_video(Path(sys.argv[1]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False)
    assert "VideoFileError: the video of 2147483776 bytes does not fit in memory" in ended.stderr
