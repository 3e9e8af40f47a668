"""Evaluation with a model whose videos are known, so that every number is known, too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from replay_model import ReplayModel, make_tasks, write_dataset

from wan_r1.config import ConfigError
from wan_r1.evaluate.config import EvaluateConfig
from wan_r1.evaluate.report import choose_examples, write_report
from wan_r1.evaluate.scores import score_row, writing_scores
from wan_r1.evaluate.stage import EvaluationError, choose_tasks, evaluate, run, video_seed
from wan_r1.evaluate.summary import detail_rows, summary_rows
from wan_r1.progress import Progress
from wan_r1.reports.intervals import wilson
from wan_r1.reports.scores import SCORES_SCHEMA
from wan_r1.storage.tables import read_table
from wan_r1.tasks.dataset import dataset_sha256
from wan_r1.tasks.schema import DataContractError
from wan_r1.tasks.video import decode_video
from wan_r1.training.inputs import InputError
from wan_r1.verification import Verdict, verify
from wan_r1.video_model.reference import ModelReference


@pytest.fixture(scope="module")
def tasks():
    return make_tasks("test", 8) + make_tasks("harder", 4)


@pytest.fixture(scope="module")
def dataset(tasks, tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), tasks)


def _evaluate(config, model, dataset, path, name="sft"):
    chosen = choose_tasks(config, dataset)
    with Progress("evaluate", len(chosen), unit="video") as progress:
        return evaluate(config, model, name, chosen, dataset, path, progress)


def test_three_of_eight_correct_videos_give_an_exact_match_of_0_375(tasks, dataset, tmp_path):
    regular = [task.level_id for task in tasks if (task.split, task.family) == ("test", "regular")]
    model = ReplayModel(tasks, failing=regular[3:])
    scores = _evaluate(EvaluateConfig(samples=8, batch_size=5), model, dataset, tmp_path / "scores.parquet")

    rows = {(row["split"], row["family"]): row for row in summary_rows(scores)}
    assert set(rows) == {(s, f) for s in ("test", "harder") for f in ("regular", "trapfield")}
    row = rows["test", "regular"]
    assert (row["n"], row["em"], row["sr"], row["errors"]) == (8, 0.375, 0.375, 0)
    assert (row["em_low"], row["em_high"]) == wilson(3, 8)
    assert row["difficulty"] == row["texture"] == "all"
    assert row["sd"] == 0.0
    assert 0.375 < row["reward"] < 1
    for place in (("test", "trapfield"), ("harder", "regular"), ("harder", "trapfield")):
        assert rows[place]["em"] == rows[place]["sr"] == rows[place]["pr"] == 1.0
    assert rows["harder", "regular"]["n"] == 4
    assert [call["steps"] for call in model.calls] == [50] * len(model.calls)


def test_a_model_that_never_moves_has_no_step_deviation_and_keeps_fidelity(tasks, dataset, tmp_path):
    model = ReplayModel(tasks, failing={task.level_id for task in tasks})
    scores = _evaluate(EvaluateConfig(samples=8, splits=("test",)), model, dataset, tmp_path / "scores.parquet")
    for row in summary_rows(scores):
        assert row["em"] == row["sr"] == row["em_low"] == 0.0
        assert row["sd"] is None
        assert row["em_high"] == pytest.approx(wilson(0, 8)[1])
        assert row["mf"] > 0.99


def test_the_table_has_every_video_as_it_was_scored(tasks, dataset, tmp_path):
    noisy = tasks[0].level_id
    model = ReplayModel(tasks, noisy={noisy})
    path = tmp_path / "scores.parquet"
    _evaluate(EvaluateConfig(samples=8, batch_size=3, splits=("test",)), model, dataset, path)
    rows = read_table(path, SCORES_SCHEMA).to_pylist()
    assert pq.ParquetFile(path).metadata.num_row_groups == 6, "one row group a batch of 3 of 16 videos"
    by_id = {task.level_id: task for task in tasks}
    assert sorted(row["level_id"] for row in rows) == sorted(t.level_id for t in tasks if t.split == "test")
    for row in rows:
        task = by_id[row["level_id"]]
        video = decode_video(row["video"]["bytes"])
        assert np.array_equal(decode_video(row["reference"]["bytes"]), task.video)
        assert np.array_equal(video, task.video) is (row["level_id"] != noisy)
        again = verify(video[None], [task])[0]
        assert (row["em"], row["sr"]) == (again.em, again.sr)
        assert row["pr"] == pytest.approx(again.pr) and row["mf"] == pytest.approx(again.mf)
        assert row["seed"] == video_seed(0, row["level_id"])
        assert [entry["kind"] for entry in row["violations"]] == [entry.kind for entry in again.violations]
    spoilt = next(row for row in rows if row["level_id"] == noisy)
    assert spoilt["mf"] < 0.9 and not spoilt["em"]


def test_batches_change_neither_seeds_nor_scores(tasks, dataset, tmp_path):
    failing = {task.level_id for task in tasks[::3]}
    one, two = ReplayModel(tasks, failing), ReplayModel(tasks, failing)
    first = _evaluate(EvaluateConfig(samples=6, batch_size=2), one, dataset, tmp_path / "one.parquet")
    second = _evaluate(EvaluateConfig(samples=6, batch_size=64), two, dataset, tmp_path / "two.parquet")
    assert first == second
    seeds = [[seed for call in model.calls for seed in call["seeds"]] for model in (one, two)]
    assert seeds[0] == seeds[1] and len(seeds[0]) == len(first)


def test_seeds_depend_on_the_seed_and_the_level_alone():
    assert video_seed(0, "a") == video_seed(0, "a")
    assert len({video_seed(seed, level) for seed in (0, 1) for level in ("a", "b")}) == 4
    assert all(0 <= video_seed(seed, "a") < 2**63 for seed in range(100))


def test_fewer_samples_are_a_part_of_more(dataset):
    few = choose_tasks(EvaluateConfig(samples=3), dataset)
    many = choose_tasks(EvaluateConfig(samples=8), dataset)
    assert {task.level_id for task in few} <= {task.level_id for task in many}
    assert len(few) == 3 * 4 and len(many) == 8 * 2 + 4 * 2


def test_a_split_that_the_data_set_lacks_is_named(dataset):
    with pytest.raises(EvaluationError, match=r"eval_splits=validation.*no level of the split 'validation'"):
        choose_tasks(EvaluateConfig(splits=("validation",)), dataset)


def test_an_unreadable_video_counts_as_failed_and_as_an_error(tasks):
    task = tasks[0]
    unread = Verdict(error="frames of 16 x 16 px, expected 32 x 32", mf=0.7, pr=0.5)
    row = score_row(
        model="sft",
        task=task,
        seed=1,
        video=np.array(task.video),
        reference=None,
        verdict=unread,
        reward=0.9,
        components={"em": 0.0},
    )
    assert (row["em"], row["sr"], row["pr"], row["mf"], row["reward"]) == (False, False, 0.0, 0.0, 0.0)
    solved = score_row(
        model="sft",
        task=task,
        seed=1,
        video=np.array(task.video),
        reference=None,
        verdict=Verdict(em=True, sr=True, pr=1.0, sd=0.0, mf=1.0),
        reward=1.0,
        components={},
    )
    (total,) = summary_rows([row, solved])
    assert (total["n"], total["em"], total["sr"], total["pr"], total["mf"]) == (2, 0.5, 0.5, 0.5, 0.5)
    assert (total["errors"], total["sd"], total["reward"]) == (1, 0.0, 0.5)


def test_finer_rows_add_up_to_the_whole(tasks, dataset, tmp_path):
    failing = {task.level_id for task in tasks if task.texture == "night"}
    scores = _evaluate(EvaluateConfig(samples=8), ReplayModel(tasks, failing), dataset, tmp_path / "s.parquet")
    whole = {(row["split"], row["family"]): row for row in summary_rows(scores)}
    details = detail_rows(scores)
    assert not [row for row in details if row["split"] == "harder" and row["difficulty"] != "all"], "all are hard"
    for axis in ("difficulty", "texture"):
        finer = [row for row in details if row["split"] == "test" and row[axis] != "all"]
        for family in ("regular", "trapfield"):
            parts = [row for row in finer if row["family"] == family]
            assert sum(row["n"] for row in parts) == whole["test", family]["n"]
            assert sum(row["n"] * row["em"] for row in parts) == pytest.approx(8 * whole["test", family]["em"])
    by_texture = {row["texture"]: row["em"] for row in details if row["texture"] != "all" and row["split"] == "test"}
    assert by_texture == {"night": 0.0, "plain": 1.0}


def test_an_interrupted_table_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), writing_scores(tmp_path / "scores.parquet"):
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []


def test_the_report_shows_solved_and_failed_videos(tasks, dataset, tmp_path):
    regular = sorted(task.level_id for task in tasks if (task.split, task.family) == ("test", "regular"))
    model = ReplayModel(tasks, failing=regular[::2])
    config = EvaluateConfig(samples=8, splits=("test",))
    scores = _evaluate(config, model, dataset, tmp_path / "scores.parquet")
    shown = choose_examples(scores, 2)
    assert shown[:4] == [regular[1], regular[0], regular[3], regular[2]], "solved and failed alternate, in order of ids"
    summary = {
        "model": "sft",
        "rows": summary_rows(scores),
        "details": detail_rows(scores),
        "config": json.loads(config.to_json()),
        "config_hash": config.hash,
        "git_commit": "0" * 40,
        "seconds": 1.0,
        "checkpoint_uri": None,
        "training_step": 0,
        "training_core_seconds": 0.0,
        "peak_memory_bytes": 1 << 20,
    }
    write_report(tmp_path / "report.html", summary, tmp_path / "scores.parquet", videos=2)
    html = (tmp_path / "report.html").read_text()
    assert html.count("<video ") == 6, "2 solved and 2 failed regular ones, 2 solved trapfields"
    assert html.count(">solved<") == 4 and html.count(">not solved<") == 2
    assert "50.0 %" in html and "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "eval_samples=0 is not allowed; expected a whole number from 1"),
        ({"steps": -3}, "eval_steps=-3 is not allowed"),
        ({"splits": ["test", "prompts"]}, "eval_splits=.*prompts.*train, validation, test, harder"),
        ({"splits": []}, "eval_splits"),
        ({"reward": "trajectry"}, "eval_reward='trajectry' is unknown; allowed: .*did you mean trajectory"),
        ({"reward": "judge"}, "eval_reward='judge' is not allowed"),
        ({"sample": 3}, "eval_sample is no parameter of evaluate.*did you mean samples"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(values, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig.build(values)


def test_the_tiny_preset_is_valid():
    config = EvaluateConfig.from_preset("tiny")
    assert config.samples == 256 and config.splits == ("test", "harder")


def _run(dataset, folder, sampler, **changes):
    reference = folder / "model.json"
    ModelReference(name="sft", base_uri="s3://bucket/tiny", checkpoint_uri="s3://bucket/step-00000007", step=7).write(
        reference
    )
    arguments = {
        "dataset": dataset,
        "model": reference,
        "output": folder / "scores",
        "metrics": folder / "metrics.json",
        "report": folder / "report.html",
        "load": lambda reference: sampler,
    }
    return run(EvaluateConfig(samples=4, threads=1, report_videos=1), **{**arguments, **changes})


def test_a_stage_writes_scores_summary_and_report(tasks, dataset, tmp_path):
    certificate = tmp_path / "certificate.json"
    certificate.write_text(json.dumps({"dataset_sha256": dataset_sha256(dataset), "rows": len(tasks)}))
    summary = _run(dataset, tmp_path, ReplayModel(tasks), certificate=certificate)
    assert json.loads((tmp_path / "metrics.json").read_text()) == summary
    assert json.loads((tmp_path / "scores" / "summary.json").read_text()) == summary
    assert (summary["model"], summary["training_step"], summary["stage"]) == ("sft", 7, "evaluate")
    assert summary["seconds"] > 0 and summary["peak_memory_bytes"] > 0
    assert all(row["em"] == row["sr"] == row["pr"] == 1.0 and row["errors"] == 0 for row in summary["rows"])
    assert read_table(tmp_path / "scores", SCORES_SCHEMA).num_rows == 16
    assert "<video " in (tmp_path / "report.html").read_text()


def test_wrong_inputs_are_refused_before_the_model_is_loaded(tasks, dataset, tmp_path):
    def load(reference):
        raise AssertionError("loading takes minutes at full size")

    certificate = tmp_path / "certificate.json"
    certificate.write_text(json.dumps({"dataset_sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"is not the data that certificate=.* is for"):
        _run(dataset, tmp_path, None, certificate=certificate, load=load)
    with pytest.raises(ValueError, match=r"report.html is no model reference"):
        _run(dataset, tmp_path, None, model=tmp_path / "report.html", load=load)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataContractError, match="empty"):
        _run(tmp_path / "empty", tmp_path, None, load=load)
    assert not (tmp_path / "scores").exists()
