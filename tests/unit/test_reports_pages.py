"""Pages, tables, charts and clips: well formed, escaped, self-contained."""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import av
import numpy as np
import pytest

from wan_r1.reports import (
    Clip,
    Html,
    Interval,
    IntervalPlot,
    LinePlot,
    Pane,
    Section,
    Series,
    duration,
    encode_playable,
    moving_average,
    page,
    percent,
    percent_interval,
    plot_grid,
    show,
    size,
    svg_file,
    table,
    video_grid,
)
from wan_r1.reports.plots import describe, ticks
from wan_r1.reports.videos import strip

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Checker(HTMLParser):
    """Collects tags and complains about ones that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def _parsed(html: str) -> list[tuple[str, dict]]:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker.found


def _clip(frames: np.ndarray | None, label: str = "SFT") -> Clip:
    return Clip(title="level <1>", panes=[Pane(label="Reference", frames=frames), Pane(label=label, frames=frames)])


@pytest.fixture
def frames() -> np.ndarray:
    frames = np.full((9, 32, 32, 3), 245, np.uint8)
    for number in range(9):
        frames[number, 8:14, 2 * number : 2 * number + 6] = (217, 38, 48)
    return frames


def test_a_page_is_well_formed_escaped_and_asks_nobody(frames):
    plot = LinePlot(title="a < b", x_label="step", y_label="loss", series=[Series(name="x&y", x=[0, 1], y=[1.0, 0.5])])
    html = page(
        "Title & <more>",
        [
            Section("One", ["plain <b>text</b>", Html("<p>markup</p>"), table([{"a": "<i>"}], caption="c")]),
            Section("Two", [plot_grid([plot])]),
            Section("Two", [video_grid([_clip(frames)])]),
        ],
        lead="lead",
        footer="foot",
    )
    found = _parsed(html)
    assert "plain &lt;b&gt;text" in html and "<p>markup</p>" in html and "&lt;i&gt;" in html
    assert "Title &amp; &lt;more&gt;" in html
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids)) and {"one", "two", "two-more"} <= set(ids)
    links = [attributes["href"] for tag, attributes in found if tag == "a"]
    assert links == ["#one", "#two", "#two-more"]
    sources = [value for _, a in found for key, value in a.items() if key in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("#", "data:")) for value in sources)
    assert "default-src 'none'" in html and "url(" not in html and "@import" not in html
    video = next(attributes for tag, attributes in found if tag == "video")
    assert {"loop", "muted", "autoplay", "playsinline"} <= set(video) and "level <1>" in video["aria-label"]


def test_a_page_without_videos_has_no_script():
    assert "<script" not in page("Title", [Section("One", ["text"])])


def test_a_table_tells_headers_numbers_and_undefined_values_apart():
    rows = [{"model": "sft", "em": 0.5, "sd": None, "note": "x"}, {"model": "grpo", "em": math.nan, "sd": 0.25}]
    html = table(rows, caption="Rates", columns={"model": "Model", "em": "EM", "sd": "SD", "note": "Note"})
    found = _parsed(html)
    assert [a.get("scope") for tag, a in found if tag == "th"] == ["col"] * 4 + ["row"] * 2
    assert [a.get("class") for tag, a in found if tag == "td"] == ["number", "number", None] * 2
    assert html.count("\N{EN DASH}") == 3
    assert "Rates" in html and "<caption>" in html
    assert "no rows" in table([], caption="Nothing", columns={"a": "A"})


def test_numbers_are_written_for_readers():
    assert [show(v) for v in (None, math.inf, True, 3, 0.0, 0.12345, 12.345, 1e-5, 2e7, 4.0, "a")] == [
        "\N{EN DASH}",
        "\N{EN DASH}",
        "yes",
        "3",
        "0",
        "0.123",
        "12.3",
        "1.00e-05",
        "2.00e+07",
        "4",
        "a",
    ]
    assert percent(0.6125) == "61.3 %" and percent(None) == "\N{EN DASH}"
    assert percent_interval(0.5, 0.44, 0.56) == "50.0 % (44.0 to 56.0)"
    assert percent_interval(0.5, None, None) == "50.0 %"
    assert [duration(s) for s in (8.24, 245, 3720)] == ["8.2 s", "4 min 05 s", "1 h 02 min"]
    assert [size(n) for n in (512, 2048, 3 << 20, 3 << 30)] == ["512 B", "2 KiB", "3 MiB", "3.00 GiB"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.2, 0.21), (-3, 17), (0, 12345), (1e-9, 3e-9), (0.999, 1.0001), (5, 5.0000001)]
)
def test_ticks_are_few_round_and_inside(low, high):
    found = ticks(low, high, 6)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-9 * abs(high) <= tick <= high * (1 + 1e-9) for tick in found)
    step = found[1] - found[0]
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - round_one) for round_one in (1, 2, 5, 10)) < 1e-4


def test_a_line_breaks_at_gaps_and_stays_inside_the_plot():
    series = Series(name="a", x=[0, 1, 2, 3, 4], y=[0.1, 0.2, math.nan, None, 5.0], low=[0] * 5, high=[1] * 5)
    plot = LinePlot(title="t", x_label="x", y_label="y", series=[series], y_range=(0, 1))
    root = ET.fromstring(svg_file([plot]))
    paths = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if "curve" in e.get("class")]
    assert paths[0].get("d").count("M") == 2
    _, _, width, height = map(float, root.get("viewBox").split())
    numbers = [
        float(n) for path in root.iter("{http://www.w3.org/2000/svg}path") for n in re.findall(r"[\d.]+", path.get("d"))
    ]
    assert max(numbers[::2]) <= width and max(numbers[1::2]) <= height
    dots = [e for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(dots) == 3 and all(dot[0].text.startswith("a: ") for dot in dots)


def test_series_differ_by_colour_and_by_dashes():
    plot = LinePlot(
        title="t", x_label="x", y_label="y", series=[Series(name=str(n), x=[0, 1], y=[0, n]) for n in range(4)]
    )
    root = ET.fromstring(svg_file([plot]))
    curves = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if "curve" in (e.get("class") or "")]
    assert len({e.get("class") for e in curves}) == len({e.get("stroke-dasharray") for e in curves}) == 4
    assert {"0", "1", "2", "3"} <= {e.text for e in root.iter("{http://www.w3.org/2000/svg}text")}


def test_long_series_are_thinned_but_keep_their_ends():
    x = list(range(10_000))
    small = LinePlot(title="t", x_label="x", y_label="y", series=[Series(name="a", x=x, y=[float(n) for n in x])])
    assert len(svg_file([small])) < 20_000
    assert "from 0 to 9999" in describe(small)


def test_odd_data_still_make_a_plot():
    for y in ([], [math.nan], [3.0], [2.0, 2.0], [0.99998, 1.00001], [1e7, 3e7], [-1e-7, 2e-7]):
        plot = LinePlot(title="t", x_label="x", y_label="y", series=[Series(name="a", x=range(len(y)), y=y)])
        root = ET.fromstring(svg_file([plot]))
        texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text") if e.get("text-anchor") == "end"]
        assert len(texts) == len(set(texts)) >= 1, f"tick labels of {y} must differ: {texts}"


def test_limits_keep_the_axis_of_a_rate_within_one():
    plot = LinePlot(
        title="t", x_label="x", y_label="y", series=[Series(name="a", x=[0, 1], y=[0.97, 0.97])], y_limits=(0, 1)
    )
    labels = re.findall(r'text-anchor="end">([\d.]+)<', svg_file([plot]))
    assert max(map(float, labels)) <= 1.0


def test_interval_plots_show_values_and_leave_out_undefined_ones():
    plot = IntervalPlot(
        title="EM",
        intervals=[
            Interval(label="SFT", value=0.5, low=0.4, high=0.6),
            Interval(label="base", value=None, low=None, high=None),
        ],
    )
    root = ET.fromstring(svg_file([plot]))
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 1
    assert {"50.0", "\N{EN DASH}", "SFT", "base"} <= {e.text for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert describe(plot) == "EM: SFT 0.500, base \N{EN DASH}"


def test_moving_average():
    assert moving_average([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert moving_average([1, math.nan, 3], 2)[:2] == [1, 1] and moving_average([], 3) == []
    assert math.isnan(moving_average([math.nan], 3)[0])


def test_a_clip_is_h264_that_browsers_play_with_the_colours_of_the_frames(frames):
    data = encode_playable(frames)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate)) == (128, 128, 4.0)
        assert stream.codec_context.colorspace == 1, "tagged as BT.709"
        shown = np.stack(
            [f.reformat(src_colorspace="ITU709").to_ndarray(format="rgb24") for f in container.decode(stream)]
        )
    assert len(shown) == 9
    enlarged = frames.repeat(4, axis=1).repeat(4, axis=2).astype(int)
    assert np.abs(shown.astype(int) - enlarged).mean() < 2
    middle = shown[3, 4 * 10, 4 * 9].astype(int)
    assert np.abs(middle - (217, 38, 48)).max() < 8
    assert len(data) < 6000


def test_long_and_large_videos_are_shortened_in_time_and_size():
    frames = np.zeros((193, 96, 512, 3), np.uint8)
    with av.open(io.BytesIO(encode_playable(frames))) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(193 / 8, rel=0.01)
        assert (stream.width, stream.height) == (1024, 192)
    large = np.zeros((2, 512, 768, 3), np.uint8)
    with av.open(io.BytesIO(encode_playable(large))) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (384, 256)


def test_frames_of_another_form_are_refused():
    with pytest.raises(ValueError, match=r"shape \(9, 32, 32\).*expected uint8 \[frames, height, width, 3\]"):
        encode_playable(np.zeros((9, 32, 32), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        encode_playable(np.zeros((9, 32, 32, 3), np.float32))


def test_panes_of_a_strip_are_aligned_and_shorter_ones_rest(frames):
    joined = strip([frames, None, frames[:4]])
    assert joined.shape == (9, 128, 3 * 128 + 2 * 8, 3)
    assert np.array_equal(joined[8, :, -128:], joined[3, :, -128:])
    assert len(np.unique(joined[:, :, 128:-128])) == 1, "gaps and the missing video are one grey"
    assert np.array_equal(joined[5, ::4, :128:4], frames[5])


def test_clips_beyond_the_budget_are_left_out_and_counted(frames):
    one = len(video_grid([_clip(frames)]))
    html = video_grid([_clip(frames)] * 5, most_bytes=2 * one)
    assert html.count("<video ") == 2 and "3 more videos were left out" in html
    assert "No videos" in video_grid([])


def test_a_video_is_inside_the_page(frames):
    uri = re.search(r'src="data:video/mp4;base64,([^"]+)"', video_grid([_clip(frames)])).group(1)
    with av.open(io.BytesIO(base64.b64decode(uri))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
