"""The results of a whole run, from outputs of stages whose contents are known."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_run import LEVELS, SOLVED, ExampleRun, example_run
from rich.console import Console

from wan_r1.reports.results import model_label, model_order
from wan_r1.reports.scores import SCORES_SCHEMA
from wan_r1.reports.terminal import print_results
from wan_r1.storage.tables import read_table
from wan_r1.summarise_run import run, write_exit_summary
from wan_r1.summarise_run.findings import differences, explanation, findings
from wan_r1.summarise_run.stage import RunError

INFO = {
    "id": "20260102-000000",
    "config": {"evaluate": {"samples": LEVELS, "splits": ["test", "harder"]}, "preset": "tiny"},
    "seed": 3,
    "started_at": "2026-01-02T00:00:00+00:00",
}
KEYS = {"model", "family", "difficulty", "texture", "split", "n", "em", "em_low", "em_high"}
KEYS |= {"sr", "pr", "sd", "mf", "reward"}


@pytest.fixture(scope="module")
def made() -> ExampleRun:
    return example_run()


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(
        info=INFO,
        stages=made.stages,
        evaluations=made.evaluations,
        logs=made.logs,
        comparison=made.comparison,
        output=folder,
    )
    return folder


def _run(made: ExampleRun, output: Path, **changes) -> dict:
    arguments = {
        "info": INFO,
        "stages": [],
        "evaluations": made.evaluations,
        "logs": [],
        "comparison": None,
        "output": output,
    }
    return run(**{**arguments, **changes})


def test_results_have_one_row_per_model_split_and_family(folder):
    results = json.loads((folder / "results.json").read_text())
    assert {"id", "git_commit", "config", "seed", "machine"} == set(results["run"])
    assert (results["run"]["id"], results["run"]["seed"]) == ("20260102-000000", 3)
    places = [(row["model"], row["split"], row["family"]) for row in results["rows"]]
    assert len(places) == len(set(places)) == 6 * 2 * 2
    assert list(dict.fromkeys(place[0] for place in places)) == list(SOLVED)
    for row in results["rows"]:
        assert set(row) >= KEYS
        assert (row["n"], row["em"]) == (LEVELS, SOLVED[row["model"]] / LEVELS)
        assert row["em_low"] <= row["em"] <= row["em_high"]
        assert row["difficulty"] == row["texture"] == "all"
    assert next(row for row in results["rows"] if row["model"] == "base")["sd"] is None


def test_stages_carry_time_memory_and_whether_they_were_cached(folder):
    stages = {stage["name"]: stage for stage in json.loads((folder / "results.json").read_text())["stages"]}
    assert list(stages)[:2] == ["generate_tasks", "evaluate base"] and "evaluate grpo:judge" in stages
    first = stages["generate_tasks"]
    assert (first["seconds"], first["peak_memory_bytes"], first["cached"]) == (8.0, 300 << 20, True)
    assert not stages["evaluate base"]["cached"] and stages["evaluate base"]["peak_memory_bytes"] > 0


def test_tables_lie_beside_the_results(folder, made):
    names = sorted(path.name for path in (folder / "scores").iterdir())
    assert names == sorted(f"{model.replace(':', '-')}.parquet" for model in SOLVED)
    rows = read_table(folder / "scores" / "grpo-judge.parquet", SCORES_SCHEMA).to_pylist()
    assert len(rows) == 4 * LEVELS and all(row["video"]["bytes"] for row in rows)
    assert (folder / "comparison.parquet").read_bytes() == made.comparison.read_bytes()
    assert (folder / "comparison.svg").read_text().startswith("<svg")


def test_the_report_is_small_and_complete(folder):
    path = folder / "report.html"
    html = path.read_text()
    assert path.stat().st_size < 5_000_000
    for heading in (
        "Results",
        "Videos",
        "Supervised fine-tuning",
        "Reinforcement learning",
        "Rewards compared",
        "Stages",
        "Configuration",
    ):
        assert re.search(f"<h2[^>]*>{heading}</h2>", html), heading
    # Per split and family: only GRPO solves it, both do, neither does; nothing is solved by SFT alone.
    assert html.count("<video ") == 4 * 3
    assert html.count("only GRPO solves it</p>") == 4 and "only SFT solves it</p>" not in html
    assert "GRPO against SFT: better on test, regular (+37.5 points, +9.0 to +57.7)" in html
    assert "81.2 % (57.0 to 93.4)" in html
    for title in ("Clipped ratios", "KL to the starting policy", "Agreement of the judge", "Loss", "Fidelity"):
        assert f"<figcaption>{title}" in html


def test_differences_are_paired_by_level():
    def scores(solved: str, split: str = "test") -> list[dict]:
        return [
            {"split": split, "family": "regular", "level_id": level, "em": level in solved, "mf": 0.9}
            for level in "abcdef"
        ]

    (row,) = differences({"sft": scores("abc"), "grpo": scores("bcdef")}, [("sft", "grpo"), ("base", "sft")])
    assert (row["gained"], row["lost"], row["n"]) == (3, 1, 6)
    assert row["difference"] == pytest.approx(2 / 6) and row["low"] < 0 < row["high"]
    assert row["mf_difference"] == 0
    assert differences({"sft": scores("a")[:3], "grpo": scores("a", "harder")}, [("sft", "grpo")]) == []


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.2, "GRPO against SFT: better on"), (-0.2, -0.01, "worse on"), (-0.1, 0.1, "not clearly different on")],
)
def test_findings_follow_the_interval(low, high, words):
    row = {"first": "sft", "second": "grpo", "split": "test", "family": "regular", "n": 9, "mf_difference": -0.031}
    (sentence,) = findings([{**row, "difference": (low + high) / 2, "low": low, "high": high}])
    assert words in sentence and "Fidelity changes by -3.1 points." in sentence


def test_the_explanation_counts_what_could_not_be_read():
    row = {"n": 8, "em_low": 0.1, "em_high": 0.5, "split": "test", "errors": 2}
    text = " ".join(explanation([row]))
    assert "8 videos" in text and "2 videos could not be read" in text and "within 20.0 points" in text
    assert "no level was trained on" in text
    assert "no level was trained on" not in " ".join(explanation([{**row, "split": "train"}]))
    assert explanation([]) == ["No model was evaluated in this run."]


def test_a_run_of_one_evaluation_has_a_report_too(made, tmp_path):
    results = _run(made, tmp_path, evaluations=made.evaluations[:1])
    assert {row["model"] for row in results["rows"]} == {"base"} and results["differences"] == []
    assert results["run"]["machine"]["cores"] >= 1 and results["run"]["git_commit"]
    assert "<video " in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "comparison.svg").exists()


def test_a_run_of_nothing_says_so(made, tmp_path):
    results = _run(made, tmp_path, evaluations=[])
    assert results["rows"] == results["stages"] == []
    assert "No model was evaluated" in (tmp_path / "report.html").read_text()


def test_one_checkpoint_evaluated_twice_is_listed_once(made, tmp_path):
    results = _run(made, tmp_path, evaluations=[*made.evaluations, made.arm_evaluations[0]])
    assert len(results["rows"]) == 6 * 2 * 2


def test_another_checkpoint_of_the_same_name_goes_by_its_reward_or_is_refused(made, tmp_path):
    copy = tmp_path / "again"
    shutil.copytree(made.arm_evaluations[0], copy)
    summary = json.loads((copy / "summary.json").read_text())
    (copy / "summary.json").write_text(json.dumps({**summary, "checkpoint_uri": "s3://bucket/other"}))
    results = _run(made, tmp_path / "one", evaluations=[made.arm_evaluations[0], copy])
    assert {row["model"] for row in results["rows"]} == {"grpo", "grpo:trajectory"}
    (copy / "summary.json").write_text(
        json.dumps({**summary, "checkpoint_uri": "s3://bucket/other", "training_reward": None})
    )
    with pytest.raises(RunError, match="different checkpoints, both named 'grpo'"):
        _run(made, tmp_path / "two", evaluations=[made.arm_evaluations[0], copy])


def test_missing_files_are_named(made, tmp_path):
    (tmp_path / "stage.json").write_text('{"stage": "evaluate"}')
    with pytest.raises(RunError, match=r"stage.json is no summary of a stage.*seconds"):
        _run(made, tmp_path / "run", stages=[tmp_path / "stage.json"])
    copy = tmp_path / "evaluation"
    shutil.copytree(made.evaluations[0], copy)
    (copy / "scores.parquet").unlink()
    with pytest.raises(RunError, match=r"scores.parquet is missing; give the folder that evaluate wrote for 'base'"):
        _run(made, tmp_path / "run", evaluations=[copy])


def test_logs_without_a_name_are_numbered(made, tmp_path):
    table = pq.read_table(made.arms[0]).replace_schema_metadata({})
    paths = [tmp_path / f"{n}.parquet" for n in (1, 2)]
    for path in paths:
        pq.write_table(table, path)
    _run(made, tmp_path / "run", logs=paths)
    html = (tmp_path / "run" / "report.html").read_text()
    assert ">GRPO 1</text>" in html and ">GRPO 2</text>" in html


def test_a_log_without_a_name_is_of_the_model_that_was_trained_as_long(made, tmp_path):
    table = pq.read_table(made.logs[1]).replace_schema_metadata({})
    pq.write_table(table, tmp_path / "log.parquet")
    copy = tmp_path / "sft_continued"
    shutil.copytree(next(path for path in made.evaluations if path.name == "sft_continued"), copy)
    summary = json.loads((copy / "summary.json").read_text())
    trained = {"training_step": 400, "training_core_seconds": table["core_seconds"][-1].as_py()}
    (copy / "summary.json").write_text(json.dumps({**summary, **trained}))
    others = [path for path in made.evaluations if path.name != "sft_continued"]
    _run(made, tmp_path / "run", evaluations=[*others, copy], logs=[tmp_path / "log.parquet"])
    assert "Exact match on validation levels" in (html := (tmp_path / "run" / "report.html").read_text())
    assert ">SFT continued, regular</text>" in html


def test_stages_of_one_name_are_numbered(made, tmp_path):
    results = _run(made, tmp_path, stages=[made.stages[0], made.stages[0]])
    assert [stage["name"] for stage in results["stages"]] == ["generate_tasks", "generate_tasks (2)"]


def test_a_short_or_empty_log_is_no_error(made, tmp_path):
    empty = pa.table({"step": pa.array([], pa.int64()), "loss": pa.array([], pa.float64())})
    pq.write_table(empty, tmp_path / "empty.parquet")
    pq.write_table(pa.table({"iteration": [1], "reward": [0.5]}), tmp_path / "one.parquet")
    _run(made, tmp_path / "run", logs=[tmp_path / "empty.parquet", tmp_path / "one.parquet"])
    assert "Reward that is trained on" in (tmp_path / "run" / "report.html").read_text()


def test_the_terminal_shows_every_model_with_its_interval(folder):
    results = json.loads((folder / "results.json").read_text())
    stream = io.StringIO()
    print_results(results, report="runs/latest/report.html", console=Console(file=stream))
    lines = stream.getvalue().splitlines()
    grpo = next(line for line in lines if line.strip().startswith("GRPO "))
    assert grpo.count("81.2 (57-93)") == 4, "one line, however narrow the terminal"
    header = next(line for line in lines if "harder" in line)
    assert header.index("test") < header.index("harder")
    assert "Report: runs/latest/report.html" in stream.getvalue()
    assert "16 levels per cell" in stream.getvalue()


def test_models_have_one_order_and_readable_names():
    names = ["grpo:judge", "other", "grpo", "sft_continued", "grpo:exact_match", "base", "sft"]
    assert sorted(names, key=model_order) == [
        "base",
        "sft",
        "sft_continued",
        "grpo",
        "grpo:exact_match",
        "grpo:judge",
        "other",
    ]
    assert (model_label("sft_continued"), model_label("grpo:judge")) == ("SFT continued", "GRPO, judge")


def test_the_exit_summary_of_a_failed_run_names_what_failed(tmp_path):
    path = tmp_path / "deep" / "summary.json"
    written = write_exit_summary(
        output=path,
        run_id="r1",
        status="FAILED",
        error="grpo_reward='x' is unknown",
        failed_stage="train-grpo",
        parameters={"grpo_reward": "x"},
        results=tmp_path / "absent.json",
    )
    assert json.loads(path.read_text()) == written
    assert (written["status"], written["failed_stage"], written["rows"]) == ("FAILED", "train-grpo", None)
    assert written["parameters"] == {"grpo_reward": "x"} and written["machine"]["cores"] >= 1


def test_the_exit_summary_takes_what_there_is(tmp_path, folder):
    written = write_exit_summary(
        output=tmp_path / "s.json", run_id="r1", status="SUCCEEDED", results=folder / "results.json"
    )
    assert len(written["rows"]) == 24 and written["error"] is None and written["parameters"] is None
    for broken in ("{", "[]", '{"rows": 3}'):
        (tmp_path / "broken.json").write_text(broken)
        again = write_exit_summary(
            output=tmp_path / "s.json", run_id="r1", status="FAILED", results=tmp_path / "broken.json"
        )
        assert again["rows"] is None
