"""The reward comparison on made-up training logs and evaluations of known videos."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_run import LEVELS, SOLVED, ExampleRun, example_run

from wan_r1.compare_rewards import CompareRewardsConfig, run
from wan_r1.compare_rewards.stage import ComparisonError, build_rows
from wan_r1.config import ConfigError
from wan_r1.reports.comparison import COMPARISON_SCHEMA, comparison_findings, comparison_plots
from wan_r1.reports.intervals import wilson
from wan_r1.reports.logs import read_log
from wan_r1.reports.results import ResultsError
from wan_r1.storage.tables import read_table


@pytest.fixture(scope="module")
def made() -> ExampleRun:
    return example_run()


def _log(path: Path, rewards: list[float], em: list[float | None]) -> Path:
    rows = [{"iteration": n + 1, "reward": r, "em": e} for n, (r, e) in enumerate(zip(rewards, em, strict=True))]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _evaluation(model: str, solved: int, of: int) -> dict:
    row = {"split": "test", "family": "regular", "n": of, "em": solved / of, "pr": 0.5, "mf": 0.9, "reward": 0.6}
    low, high = wilson(solved, of)
    return {"model": model, "rows": [{**row, "em_low": low, "em_high": high}]}


def test_one_row_an_arm_with_training_and_evaluation(made):
    arms = {row["model"]: row for row in read_table(made.comparison, COMPARISON_SCHEMA).to_pylist()}
    assert list(arms) == ["grpo", "grpo:exact_match", "grpo:judge"]
    judge = arms["grpo:judge"]
    assert (judge["reward"], judge["iterations"], judge["core_seconds"]) == ("judge", 80, 160.0)
    assert judge["training_reward_last"] > judge["training_reward_first"]
    assert judge["em_last"] < judge["em_first"] and judge["verified_reward_last"] < judge["verified_reward_first"]
    assert judge["judge_agreement_first"] == pytest.approx(0.75 - 0.7 * 5.5 / 80)
    assert arms["grpo"]["reward"] == "trajectory" and arms["grpo"]["judge_agreement_last"] is None
    assert len(judge["curve"]) == 80 and judge["curve"][-1]["core_seconds"] == 160.0
    for model, arm in arms.items():
        pooled = next(r for r in arm["results"] if (r["split"], r["family"]) == ("test", "all"))
        solved, count = 2 * SOLVED[model], 2 * LEVELS
        assert (pooled["n"], pooled["em"]) == (count, solved / count)
        assert (pooled["em_low"], pooled["em_high"]) == pytest.approx(wilson(solved, count))
        assert len(arm["results"]) == 6, "two splits of two families and their pool"


def test_first_and_last_are_means_of_the_window(tmp_path):
    log = read_log(_log(tmp_path / "log.parquet", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.5, None, 0.5, 0.1, 0.2, None]))
    (row,) = build_rows([log], [_evaluation("grpo:judge", 1, 4)], window=2)
    assert (row["training_reward_first"], row["training_reward_last"]) == pytest.approx((0.1, 0.9))
    assert (row["em_first"], row["em_last"]) == pytest.approx((0.5, 0.2)), "missing values are left out"
    assert row["verified_reward_last"] is None and row["core_seconds"] is None
    (row,) = build_rows([log], [_evaluation("grpo:judge", 1, 4)], window=100)
    assert row["window"] == 3, "first and last never share an iteration"


def test_an_arm_that_never_changed_the_model_says_so(tmp_path):
    """A row like the starting policy's must not pass for a finding about its reward."""
    rows = [{"iteration": n + 1, "reward": 0.5, "em": 0.3, "seconds_update": 0.1} for n in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "still.parquet")
    pq.write_table(pa.Table.from_pylist([{**row, "grad_norm": 0.2} for row in rows]), tmp_path / "moved.parquet")
    logs = [read_log(tmp_path / f"{name}.parquet") for name in ("still", "moved")]
    still, moved = build_rows(logs, [_evaluation("grpo:judge", 1, 4), _evaluation("grpo", 1, 4)], window=2)
    assert (still["updates"], moved["updates"]) == (0, 4)
    assert "Trained on judge: no iteration changed the model" in comparison_findings([still, moved])
    assert comparison_findings([moved]).count("<li>") == 1 and "no iteration" not in comparison_findings([moved])
    unknown = read_log(_log(tmp_path / "other.parquet", [0.1, 0.2], [0.1, 0.2]))
    assert build_rows([unknown], [_evaluation("grpo", 1, 4)], window=1)[0]["updates"] is None


def test_the_judges_failure_is_said_in_words_and_drawn(made):
    arms = read_table(made.comparison, COMPARISON_SCHEMA).to_pylist()
    text = comparison_findings(arms)
    assert "Trained on judge: its own reward rose from 0.63 to 0.98 while exact match of its rollouts fell" in text
    assert "Trained on trajectory: its own reward rose from 0.57 to 0.82 and exact match of its rollouts rose" in text
    judge = comparison_plots(arms)[-1]
    ends = {series.name: (series.y[0], series.y[-1]) for series in judge.series}
    assert ends["training reward"][1] > 0.95 and ends["exact match"][1] < 0.1
    assert set(ends) == {"training reward", "verified reward", "exact match", "judge agrees"}
    assert judge.y_range == (0.0, 1.0), "arms are only comparable on one scale"


def test_models_without_an_arm_follow_as_rows_without_a_curve(made, tmp_path):
    sft = next(path for path in made.evaluations if path.name == "sft")
    summary = run(
        CompareRewardsConfig(),
        arms=made.arms,
        evaluations=[sft, *made.arm_evaluations],
        output=tmp_path / "table.parquet",
        report=tmp_path / "report.html",
        plot=tmp_path / "plot.svg",
    )
    rows = read_table(tmp_path / "table.parquet", COMPARISON_SCHEMA).to_pylist()
    assert [row["model"] for row in rows] == ["grpo", "grpo:exact_match", "grpo:judge", "sft"]
    assert rows[-1]["curve"] == [] and rows[-1]["training_reward_last"] is None
    assert "curve" not in summary["arms"][0] and json.dumps(summary)
    root = ET.parse(tmp_path / "plot.svg").getroot()
    curves = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if "curve" in e.get("class")]
    assert len(curves) == 3 + 3 + 4
    html = (tmp_path / "report.html").read_text()
    assert "only evaluated: sft" in html and "81.2 % (64.7 to 91.1)" in html


def test_arms_of_a_sweep_are_named_by_their_settings(tmp_path):
    settings = ("kl_beta=0", "group_size=3,kl_beta=0.1")
    logs = [_log(tmp_path / f"{n}.parquet", [0.1, 0.2], [0.5, 0.6]) for n in range(2)]
    evaluations = []
    for n, name in enumerate(settings):
        evaluation = {**_evaluation(f"grpo:{name}", n + 1, 4), "training_reward": "trajectory"}
        evaluations.append(tmp_path / f"{n}" / "summary.json")
        evaluations[-1].parent.mkdir()
        evaluations[-1].write_text(json.dumps(evaluation))
    outputs = {"output": tmp_path / "t.parquet", "report": tmp_path / "r.html"}
    run(CompareRewardsConfig(), arms=logs, evaluations=evaluations, **outputs)
    rows = read_table(tmp_path / "t.parquet", COMPARISON_SCHEMA).to_pylist()
    assert [row["reward"] for row in rows] == ["trajectory", "trajectory"]
    assert [plot.title for plot in comparison_plots(rows)] == [
        "Trained with: kl_beta=0",
        "Trained with: group_size=3, kl_beta=0.1",
    ]
    html = (tmp_path / "r.html").read_text()
    assert "2 GRPO runs from the same checkpoint, each with other settings." in html
    assert "Settings compared" in html and "another reward" not in html and "Trained on" not in html


def test_arms_of_a_comparison_are_named_by_their_rewards(made, tmp_path):
    outputs = {"output": tmp_path / "t.parquet", "report": tmp_path / "r.html"}
    run(CompareRewardsConfig(), arms=made.arms, evaluations=made.arm_evaluations, **outputs)
    html = (tmp_path / "r.html").read_text()
    assert "3 GRPO runs from the same checkpoint, each with another reward." in html
    assert "Rewards compared" in html and "Trained on" in html and "other settings" not in html


def test_logs_without_names_meet_evaluations_by_their_place(tmp_path):
    logs = [read_log(_log(tmp_path / f"{n}.parquet", [0.1 * n] * 4, [0.5] * 4)) for n in (1, 2)]
    rows = build_rows(logs, [_evaluation("grpo:judge", 1, 4), _evaluation("grpo:success", 2, 4)], window=2)
    assert [(row["model"], row["training_reward_last"]) for row in rows] == [
        ("grpo:judge", pytest.approx(0.1)),
        ("grpo:success", pytest.approx(0.2)),
    ]
    with pytest.raises(ComparisonError, match="2 training logs without a model's name and 1 evaluations"):
        build_rows(logs, [_evaluation("grpo:judge", 1, 4)], window=2)


def test_what_does_not_belong_together_is_named(made, tmp_path):
    outputs = {"output": tmp_path / "t.parquet", "report": tmp_path / "r.html"}
    with pytest.raises(ComparisonError, match=r"judge.parquet trained 'grpo:judge', which was not evaluated.*grpo"):
        run(CompareRewardsConfig(), arms=made.arms, evaluations=made.arm_evaluations[:2], **outputs)
    with pytest.raises(ComparisonError, match="arms is empty"):
        run(CompareRewardsConfig(), arms=[], evaluations=[], **outputs)
    (tmp_path / "summary.json").write_text('{"rows": []}')
    with pytest.raises(ResultsError, match=r"summary.json lacks model"):
        run(CompareRewardsConfig(), arms=made.arms, evaluations=[tmp_path], **outputs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rewards": ["trajectory", "juge"]}, "ablation_rewards: reward='juge' is unknown; allowed: .*judge"),
        ({"rewards": []}, r"ablation_rewards=\(\) is not allowed"),
        ({"rewards": ["judge", "judge"]}, "ablation_rewards=.*one or more different rewards"),
        ({"window": 0}, "ablation_window=0"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(values, message):
    with pytest.raises(ConfigError, match=message):
        CompareRewardsConfig.build(values)


def test_the_tiny_preset_is_valid():
    assert {"trajectory", "exact_match", "judge"} <= set(CompareRewardsConfig.from_preset("tiny").rewards)
