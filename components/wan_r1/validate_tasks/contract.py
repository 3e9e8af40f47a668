"""The contract as Great Expectations suites: one over the files, one over the rows and the facts about them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.textures import FOREIGN, RECORDED, TEXTURES
from wan_r1.validate_tasks.balance import balance_text, tell_balance
from wan_r1.validate_tasks.config import ValidateTasksConfig
from wan_r1.validate_tasks.facts import FACTS

if TYPE_CHECKING:
    import pandas as pd

_PLACE = ["file", "row", "level_id", "notes"]
"""Columns by which a broken row is named."""

_RANGES: dict[str, tuple[float, float, str]] = {
    "index": (0, 2**53, "the index counts from 0"),
    "frames": (5, 1025, "a video has 5 to 1025 frames"),
    "height": (32, 1024, "a frame is 32 to 1024 px high"),
    "width": (32, 1024, "a frame is 32 to 1024 px wide"),
    "fps": (1, 120, "a video has 1 to 120 frames per second"),
    "steps": (1, 1024, "a solution has 1 to 1024 moves"),
}

_SETS: dict[str, Iterable[str]] = {
    "family": FAMILIES,
    "difficulty": DIFFICULTIES,
    "split": SPLITS,
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule, how often it was checked, and what breaks it.

    Attributes:
        name: the rule's short name.
        text: the rule in words.
        holds: whether nothing breaks it.
        checked: rows it was checked on.
        broken: places that break it, as ``{"file", "row", "level_id", "notes"}``; a rule on the whole set names none.
        found: what was found instead, for a rule on the whole set.
    """

    name: str
    text: str
    holds: bool
    checked: int
    broken: tuple[dict[str, Any], ...]
    found: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a suite: its rules, and Great Expectations' own result for the Data Docs."""

    rules: tuple[Rule, ...]
    result: Any

    @property
    def broken(self) -> list[Rule]:
        """The rules that do not hold."""
        return [rule for rule in self.rules if not rule.holds]


def check_files(files: pd.DataFrame) -> Outcome:
    """Check the files' own facts: columns ``file``, ``row`` (null), ``level_id`` (null), ``notes``, ``schema_true``."""
    expect = _expectations()
    return _run(
        "files",
        files,
        [
            expect.ExpectColumnValuesToBeInSet(
                column="schema_true",
                value_set=[True],
                description="the file is readable Parquet with the columns, types and version of the schema",
                meta={"rule": "schema_true"},
            ),
        ],
        shown=20,
    )


def check_rows(rows: pd.DataFrame, config: ValidateTasksConfig) -> Outcome:
    """Check the rows and the facts about them.

    Args:
        rows: one line a row: its place, its small columns, `FACTS`, ``layout_in_one_split`` and ``notes``.
        config: which splits must be there, how even the classes are, and how many broken rows to list.
    """
    rows = tell_balance(rows, config.balance)
    expect = _expectations()
    rules = []

    def rule(kind: Any, name: str, text: str, **arguments: Any) -> None:
        rules.append(kind(description=text, meta={"rule": name}, **arguments))

    for name in ("level_id", "prompt", "texture", *_SETS, *_RANGES):
        rule(expect.ExpectColumnValuesToNotBeNull, f"{name}_given", f"every row has a value for {name}", column=name)
    for name, known in _SETS.items():
        known = sorted(known)
        text = f"{name} is one of {', '.join(known)}"
        rule(expect.ExpectColumnValuesToBeInSet, f"{name}_known", text, column=name, value_set=known)
    rule(
        expect.ExpectColumnValuesToMatchRegex,
        "texture_known",
        f"texture is one of {', '.join(sorted(TEXTURES))}, or {FOREIGN}<skin> or {RECORDED} of data from elsewhere",
        column="texture",
        regex=rf"^(?:{'|'.join(sorted(TEXTURES))}|{RECORDED}|{FOREIGN}[\w.-]+)$",
    )
    for name, (low, high, text) in _RANGES.items():
        between = expect.ExpectColumnValuesToBeBetween
        rule(between, f"{name}_in_range", text, column=name, min_value=low, max_value=high)
    rule(
        expect.ExpectColumnValuesToBeInSet,
        "frames_of_codec",
        "a video has 4k + 1 frames",
        column="frames",
        value_set=list(range(5, 1026, 4)),
    )
    rule(
        expect.ExpectColumnValueLengthsToBeBetween,
        "prompt_length",
        "a prompt has 10 to 2000 characters",
        column="prompt",
        min_value=10,
        max_value=2000,
    )
    rule(
        expect.ExpectColumnValuesToMatchRegex,
        "level_id_form",
        "level_id has 16 hexadecimal digits",
        column="level_id",
        regex="^[0-9a-f]{16}$",
    )
    rule(
        expect.ExpectColumnValuesToBeUnique,
        "level_id_unique",
        "no level is there twice, in one split or in two",
        column="level_id",
    )
    rule(
        expect.ExpectCompoundColumnsToBeUnique,
        "place_unique",
        "family, split and index name one row",
        column_list=["family", "split", "index"],
    )
    rule(
        expect.ExpectColumnDistinctValuesToContainSet,
        "splits_present",
        f"there are levels in {', '.join(config.splits)}",
        column="split",
        value_set=list(config.splits),
    )
    for name in ("frames", "height", "width"):
        kind = expect.ExpectColumnUniqueValueCountToBeBetween
        rule(kind, f"{name}_equal", f"all rows have the same {name}", column=name, min_value=1, max_value=1)
    facts = {**FACTS, "layout_in_one_split": "no layout is in two splits, not even at another place on the canvas"}
    if config.balance:
        facts["class_balanced"] = balance_text(config.balance)
    for name, text in facts.items():
        rule(expect.ExpectColumnValuesToBeInSet, name, text, column=name, value_set=[True])
    return _run("rows", rows, rules, shown=config.shown_rows)


def _expectations() -> Any:
    # Imported here: it costs seconds, and reports home unless told not to before it is imported.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    return gx.expectations


def _run(name: str, table: pd.DataFrame, rules: list[Any], *, shown: int) -> Outcome:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("data set").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all")
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=rules))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    result = definition.run(
        batch_parameters={"dataframe": table},
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": _PLACE,
            "return_unexpected_index_query": False,
            "partial_unexpected_count": shown,
        },
    )
    return Outcome(rules=tuple(_rule(table, one) for one in result.results), result=result)


def _rule(table: pd.DataFrame, one: Any) -> Rule:
    """A rule from Great Expectations' result for it."""
    raised = (one.exception_info or {}).get("exception_message")
    if raised:
        raise RuntimeError(f"Great Expectations could not check {one.expectation_config.meta['rule']}: {raised}")
    result = one.result
    broken = result.get("unexpected_index_list") or []
    return Rule(
        name=one.expectation_config.meta["rule"],
        text=one.expectation_config.description,
        holds=bool(one.success),
        checked=int(result.get("element_count", len(table)) - result.get("missing_count", 0)),
        broken=tuple({key: place.get(key) for key in _PLACE} for place in broken),
        found="" if one.success or broken else str(result.get("observed_value")),
    )
