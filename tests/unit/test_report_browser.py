"""Reports and scores in a real browser: videos play, nothing is fetched, they fit a phone in light and dark."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from example_run import example_run
from PIL import Image

from wan_r1 import score
from wan_r1.summarise_run import run
from wan_r1.tasks.dataset import make_task, write_tasks

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver are not installed (Debian: chromium-driver)"
)

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
VIDEOS = "return [...document.querySelectorAll('video')].map(v => ({ready: v.readyState, paused: v.paused, at: v.currentTime, error: v.error && v.error.message, width: v.videoWidth}))"  # noqa: E501


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    made, folder = example_run(), tmp_path_factory.mktemp("browser")
    info = {"id": "demo", "seed": 0, "config": {"evaluate": {"samples": 16}}}
    inputs = {"stages": made.stages, "evaluations": made.evaluations, "logs": made.logs}
    run(info=info, **inputs, comparison=made.comparison, output=folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> Path:
    """A page of scores: one solution, one teleport to the goal, one video that does not move, one file that is none."""
    root = tmp_path_factory.mktemp("scores")
    form = {"frames": 17, "size": 64, "canvas": 4, "steps_per_frame": 0.5}
    task = make_task("regular", "medium", "plain", seed=3, split="test", index=0, **form)
    write_tasks([task], root / "dataset" / "test.parquet")
    videos = root / "videos"
    videos.mkdir()
    jumps = task.video.copy()
    jumps[5:] = task.video[-1]
    still = np.repeat(task.video[:1], task.frames, axis=0)
    for name, video in (("solved", task.video), ("jumps", jumps), ("still", still)):
        np.save(videos / f"{task.level_id}_{name}.npy", video)
    (videos / f"{task.level_id}_broken.mp4").write_bytes(b"no video")
    score.run(videos=videos, dataset=root / "dataset", output=root / "out")
    return root / "out" / "scores.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def _open(
    browser, path: Path, *, width: int = 1180, height: int = 900, scheme: str = "light", motion: str = ""
) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": motion},
    ]
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())


def _until(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def _screenshot(browser) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))


def test_videos_play_and_nothing_is_fetched_or_complained_about(browser, report):
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    _open(browser, report)

    def playing():
        return all(v["ready"] >= 2 and not v["paused"] and v["at"] > 0 for v in browser.execute_script(VIDEOS))

    assert _until(playing), browser.execute_script(VIDEOS)
    videos = browser.execute_script(VIDEOS)
    assert len(videos) == 12 and all(video["width"] == 3 * 128 + 2 * 8 for video in videos)
    assert all(video["error"] is None for video in videos)
    before = [video["at"] for video in videos]
    assert _until(lambda: all(v["at"] != b for v, b in zip(browser.execute_script(VIDEOS), before, strict=True)))

    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}, asked
    assert [url for url in asked if url.startswith("file")] == [report.as_uri()]
    assert browser.get_log("browser") == []


def test_one_button_stops_and_starts_all_videos(browser, report):
    _open(browser, report)
    button = browser.find_element("id", "play-pause")
    assert _until(lambda: not any(v["paused"] for v in browser.execute_script(VIDEOS)))
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    assert all(v["paused"] for v in browser.execute_script(VIDEOS)) and button.text == "Play all videos"
    button.click()
    assert _until(lambda: not any(v["paused"] for v in browser.execute_script(VIDEOS)))


def test_a_reader_who_wants_little_motion_gets_videos_stopped(browser, report):
    _open(browser, report, motion="reduce")
    assert _until(lambda: all(v["ready"] >= 2 for v in browser.execute_script(VIDEOS)))
    assert all(v["paused"] for v in browser.execute_script(VIDEOS))


@pytest.mark.parametrize("width", [360, 768, 1180])
def test_the_page_never_scrolls_sideways(browser, report, width):
    _open(browser, report, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('svg.chart')].map(s => s.getBoundingClientRect().width / 400)"
    assert min(browser.execute_script(small)) > 0.7, "12 px type of charts stays above 8 px"


def test_light_and_dark_are_both_drawn(browser, report, tmp_path):
    grounds = {}
    for scheme in ("light", "dark"):
        _open(browser, report, scheme=scheme)
        image = _screenshot(browser)
        Image.fromarray(image).save(tmp_path / f"{scheme}.png")
        grounds[scheme] = image[5, 5].mean()
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50, "text and charts, not an empty page"
        ink = browser.execute_script(
            "const e = document.querySelector('svg.chart text'); return getComputedStyle(e).fill"
        )
        tone = np.mean([int(part) for part in ink.removeprefix("rgb(").rstrip(")").split(",")])
        assert abs(tone - grounds[scheme]) > 80, f"{scheme}: type of {ink} on {grounds[scheme]}"
    assert grounds["light"] > 230 and grounds["dark"] < 50


def test_videos_keep_the_colours_of_the_levels(browser, report):
    """The picture on the screen has the textures' colours: what is played is what was scored."""
    _open(browser, report)
    assert _until(lambda: all(v["ready"] >= 2 for v in browser.execute_script(VIDEOS)))
    browser.find_element("id", "play-pause").click()
    video = browser.find_element("css selector", "video")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", video)
    time.sleep(0.2)
    box = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width, r.height]", video
    )
    x, y, width, height = (round(value) for value in box)
    found = _screenshot(browser)[y + 2 : y + height - 2, x + 2 : x + width - 2].reshape(-1, 3).astype(int)

    def share(colour) -> float:
        return float((np.abs(found - colour).max(1) < 12).mean())

    floors, players = ((250, 250, 247), (28, 32, 54)), ((217, 38, 48), (255, 212, 48))
    assert max(map(share, floors)) > 0.1 and max(map(share, players)) > 0.005


def _figure(browser, name: str):
    """The figure of a scored video."""
    figures = browser.find_elements("css selector", "figure.clip")
    return next(figure for figure in figures if name in figure.find_element("tag name", "p").text)


def _frame(browser, figure, number: int, frames: int) -> np.ndarray:
    """What the screen shows of a figure's video at one frame, stopped there."""
    video = figure.find_element("tag name", "video")
    browser.execute_script(
        "const v = arguments[0]; v.pause(); v.scrollIntoView({block: 'center'}); v.seen = false;"
        "v.addEventListener('seeked', () => v.requestVideoFrameCallback(() => v.seen = true), {once: true});"
        "v.currentTime = v.duration * arguments[1];",
        video,
        (number + 0.5) / frames,
    )
    _until(lambda: browser.execute_script("return arguments[0].seen && !arguments[0].seeking", video), 3)
    time.sleep(0.1)
    box = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width, r.height]", video
    )
    x, y, width, height = (round(value) for value in box)
    return _screenshot(browser)[y : y + height, x : x + width].astype(int)


def _share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(pixels - colour).max(-1) < 45).mean())


def test_scored_videos_play_and_nothing_is_fetched_or_complained_about(browser, scores):
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    _open(browser, scores)

    def playing():
        return all(v["ready"] >= 2 and not v["paused"] and v["at"] > 0 for v in browser.execute_script(VIDEOS))

    assert _until(playing), browser.execute_script(VIDEOS)
    assert len(browser.execute_script(VIDEOS)) == 3
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert [url for url in asked if not url.startswith("data:")] == [scores.as_uri()]
    assert browser.get_log("browser") == []
    words = browser.find_element("tag name", "body").text
    assert "4 videos, of which 1 could not be scored" in words and "no readable video" in words


def test_a_broken_rule_is_marked_when_and_where_it_is_broken(browser, scores):
    """The bar below the jumping video covers its sixth frame alone; there its picture has an orange rim, before not."""
    _open(browser, scores)
    assert _until(lambda: all(v["ready"] >= 2 for v in browser.execute_script(VIDEOS)))
    jumps = _figure(browser, "jumps")
    lines = jumps.find_elements("css selector", "ul.timeline li")
    line = next(line for line in lines if line.text.startswith("jump"))
    assert line.text.startswith("jump: frame 5 at (")
    left, width, whole = browser.execute_script(
        "const bar = arguments[0].querySelector('i').getBoundingClientRect(), all = "
        "arguments[0].querySelector('b').getBoundingClientRect();"
        "return [bar.left - all.left, bar.width, all.width]",
        line,
    )
    assert left / whole == pytest.approx(5 / 17, abs=0.01) and width / whole == pytest.approx(1 / 17, abs=0.01)
    orange, magenta = (255, 90, 0), (255, 0, 200)
    before, broken = (_frame(browser, jumps, number, 17) for number in (2, 5))
    half = before.shape[1] // 2
    assert _share(broken[:, half:], orange) > 0.05 > 0.01 > _share(before[:, half:], orange)
    assert _share(broken[:, half:], magenta) > 0.002, "the track is drawn"
    assert _share(broken[:, : half - 8], orange) < 0.01, "the video itself is shown as it is"
    for name, remark in (("solved", "exact match"), ("still", "not solved")):
        figure = _figure(browser, name)
        assert figure.find_element("css selector", "p.yes").text == "No rule broken."
        assert remark in figure.find_element("tag name", "figcaption").text


@pytest.mark.parametrize("width", [360, 1180])
def test_the_page_of_scores_never_scrolls_sideways(browser, scores, width):
    _open(browser, scores, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
