"""A run's report in a real browser: its videos play, nothing is fetched, and it fits a phone in light and dark."""

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

from wan_r1.summarise_run import run

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
