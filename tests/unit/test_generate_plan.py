"""The plan of a data set: what filling places one by one gives, however its ids are found, and found once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.generate_tasks import GenerateTasksConfig, make_part, plan, run, shared_plan
from wan_r1.generate_tasks.plan import check_plans, level_ids, plan_split
from wan_r1.generate_tasks.shared_plan import gather_ids
from wan_r1.storage.errors import StorageError
from wan_r1.tasks.dataset import data_files
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import make_level

NONE = {f"{split}_levels": 0 for split in SPLITS}


def tiny(**changes: Any) -> GenerateTasksConfig:
    return GenerateTasksConfig.from_preset("tiny", {**NONE, "workers": 1, **changes})


def one_by_one(config: GenerateTasksConfig, family: str, split: str) -> bytes:
    """The plan as its definition says it."""
    taken: set[str] = set()
    attempts = []
    for index in range(config.levels(split)):
        for attempt in range(200):
            place = {"seed": config.seed, "split": split, "index": index, "attempt": attempt}
            form = {"canvas": config.canvas, "max_steps": config.max_steps}
            level = make_level(family, config.place(split, index)[0], **place, **form)
            if level.level_id not in taken:
                break
        taken.add(level.level_id)
        attempts.append(attempt)
    return bytes(attempts)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6), block=st.integers(1, 50), share=st.floats(0, 1), family=st.sampled_from(["trapfield"])
)
def test_the_plan_is_the_one_of_its_definition_whatever_is_known(
    seed: int, block: int, share: float, family: str
) -> None:
    config = tiny(seed=seed, train_levels=150, families=[family], train_difficulties=["easy"])
    expected = one_by_one(config, family, "train")
    assert max(expected) > 0
    first = level_ids(config, family, "train", range(150))
    known = np.where(np.random.default_rng(seed).random(150) < share, first, np.uint64(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_BLOCKS", (block, 2 * block))
        assert plan_split(config, family, "train").attempts == expected
        assert plan_split(config, family, "train", known).attempts == expected
        # Places whose level is known in the end, not only its first attempt: all others get what they got.
        final = np.zeros(150, np.uint64)
        for index in range(0, 150, 3):
            final[index] = level_ids(config, family, "train", [index], expected[index])[0]
        again = plan_split(config, family, "train", final).attempts
        assert [again[k] for k in range(150) if k % 3] == [expected[k] for k in range(150) if k % 3]


def test_more_levels_than_there_are_is_refused_with_a_count_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer attempts call a split full earlier: the same code, sooner.
    monkeypatch.setattr(plan, "_ATTEMPTS", 20)
    config = tiny(families=["trapfield"], validation_levels=5000)
    plans = [plan_split(config, family, "validation") for family in config.families]
    with pytest.raises(ConfigError, match="tasks_validation_levels=5000 is more than the family") as refused:
        check_plans(config, plans)
    count = int(str(refused.value).partition("use at most ")[2].partition(",")[0])
    assert 50 < count < 5000
    assert len(plans[0].attempts) == count
    # Places are filled in order, so the first `count` are what a plan for `count` levels is.
    check_plans(tiny(families=["trapfield"], validation_levels=count), plans)


def test_shards_find_the_ids_together_and_each_place_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_plan, "PIECE", 8)
    few = {"train_levels": 100, "prompts_levels": 60, "shard_rows": 10}
    pairs = [(family, split) for split in ("train", "prompts") for family in ("regular", "trapfield")]
    computed: list[Counter[tuple[str, str, int]]] = [Counter() for _ in range(3)]
    found: list[Any] = [None] * 3
    begin = threading.Barrier(3)

    def gather(shard: int) -> None:
        def compute(config: GenerateTasksConfig, family: str, split: str, places: range) -> Any:
            computed[shard].update((family, split, index) for index in places)
            return level_ids(config, family, split, places)

        begin.wait()
        config = tiny(**few, shards=3, shard=shard)
        found[shard] = gather_ids(config, str(tmp_path), pairs, compute, lambda rows: None)

    threads = [threading.Thread(target=gather, args=(shard,)) for shard in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pair in pairs:
        expected = level_ids(tiny(**few), *pair, range(tiny(**few).levels(pair[1])))
        assert all((one[pair] == expected).all() for one in found)
    # Three that start together share the work; at the end two may be at the same piece.
    total = 2 * (100 + 60)
    assert set().union(*computed) == {(*pair, index) for pair in pairs for index in range(tiny(**few).levels(pair[1]))}
    assert sum(one.total() for one in computed) <= total + 6 * 8
    assert max(one.total() for one in computed) < 0.6 * total
    # One that comes later finds all of it.
    gather_ids(tiny(**few), str(tmp_path), pairs, pytest.fail, lambda rows: None)


def test_a_part_alone_plans_all_and_the_next_one_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = plan.make_level

    def counted(*words: Any, **more: Any) -> Any:
        calls.append(more["index"])
        return real(*words, **more)

    monkeypatch.setattr(plan, "make_level", counted)
    few = {"families": ["regular"], "train_levels": 40, "test_levels": 10, "shard_rows": 5, "shards": 4}
    make_part(tiny(**few, shard=1), storage_uri=str(tmp_path))
    first = len(calls)
    assert 50 <= first < 60
    make_part(tiny(**few, shard=0), storage_uri=str(tmp_path))
    assert len(calls) - first == first - 50, "only the further attempts are found again"


def test_what_a_finished_file_holds_is_not_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(train_levels=120, shard_rows=20, families=["trapfield"])
    whole = run(config, output=tmp_path)
    assert max(plan_split(config, "trapfield", "train").attempts) > 0
    data_files(tmp_path)[2].unlink()
    planned: list[int] = []
    real = plan.make_level

    def counted(*words: Any, **more: Any) -> Any:
        planned.append(more["index"])
        return real(*words, **more)

    monkeypatch.setattr(plan, "make_level", counted)
    assert run(config, output=tmp_path)["dataset_sha256"] == whole["dataset_sha256"]
    assert set(planned) == set(range(40, 60))


def test_a_space_far_too_small_is_found_out_in_the_first_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_ATTEMPTS", 20)
    config = tiny(families=["trapfield"], train_levels=10**6, shards=64, shard=5)
    monkeypatch.setattr(shared_plan, "PIECE", 1024)
    computed: list[int] = []

    def compute(config: GenerateTasksConfig, family: str, split: str, places: range) -> Any:
        computed.append(len(places))
        return level_ids(config, family, split, places)

    with pytest.raises(ConfigError, match=r"tasks_train_levels=1000000 is more than .* use at most \d+, or a larger"):
        gather_ids(config, str(tmp_path), [("trapfield", "train")], compute, lambda rows: None)
    assert computed == [1024]


def test_a_damaged_piece_of_a_plan_is_named(tmp_path: Path) -> None:
    few = {"families": ["regular"], "train_levels": 6, "shard_rows": 3}
    make_part(tiny(**few, shards=2, shard=0), storage_uri=str(tmp_path))
    (piece,) = tmp_path.glob("tasks/*/plan/train-regular-000000000-000000006.parquet")
    table = pq.read_table(piece)
    part = tiny(**few, shards=2, shard=1)
    pq.write_table(table.slice(1), piece)
    with pytest.raises(StorageError, match=r"000000006\.parquet has not the places that its name says; delete it"):
        make_part(part, storage_uri=str(tmp_path))
    pq.write_table(table.set_column(1, table.schema.field(1), [["no id"] * 6]), piece)
    with pytest.raises(StorageError, match=r"000000006\.parquet holds no level ids .*; delete it"):
        make_part(part, storage_uri=str(tmp_path))
    piece.write_bytes(b"half of it")
    with pytest.raises(StorageError, match=r"000000006\.parquet"):
        make_part(part, storage_uri=str(tmp_path))
    piece.unlink()
    assert make_part(part, storage_uri=str(tmp_path))["rows"] == 3
