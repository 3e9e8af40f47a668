"""Check the data set: recompute the facts, hold them against the contract, and certify what holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from wan_r1.progress import Progress
from wan_r1.runtime import StageClock
from wan_r1.tasks.dataset import data_files, dataset_sha256
from wan_r1.tasks.schema import SCHEMA_VERSION, SPLITS, TASK_SCHEMA, DataContractError, schema_faults
from wan_r1.validate_tasks.config import ValidateTasksConfig
from wan_r1.validate_tasks.contract import Outcome, Rule, check_files, check_rows
from wan_r1.validate_tasks.facts import row_facts
from wan_r1.validate_tasks.report import report_page

_KEPT = [name for name in TASK_SCHEMA.names if name not in ("first_frame", "video", "state", "solution", "trajectory")]
"""Columns that the rules look at as they are."""

_SAMPLES = 24
"""Levels that the report shows at most."""


def run(config: ValidateTasksConfig, *, dataset: Path, certificate: Path, report: Path) -> dict[str, Any]:
    """Check a data set.

    Args:
        config: what is asked of it.
        dataset: its folder.
        certificate: JSON file to write if the contract holds: ``dataset_sha256``, ``rows``, ``schema_version`` and
            ``rows_by_split``.
        report: HTML file to write in any case.

    Returns:
        The stage's summary with the certificate's values and the number of rules.

    Raises:
        DataContractError: naming the file, the row, the level and the rule of the first fault.
    """
    dataset, report = Path(dataset), Path(report)
    with StageClock(config.STAGE) as clock:
        files = data_files(dataset)
        table = _file_table(files, dataset)
        outcomes = {"files": check_files(table)}
        rows: pd.DataFrame | None = None
        samples: list[dict[str, Any]] = []
        if not outcomes["files"].broken:
            rows, samples = _row_table(config, files, dataset)
            with Progress(config.STAGE) as progress:
                progress.note(f"holding {len(rows)} levels against the contract")
                outcomes["rows"] = check_rows(rows, config)
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(report_page(outcomes, rows, samples, config.shown_rows))
        _refuse(outcomes, report)
    assert rows is not None
    by_split = rows["split"].value_counts().to_dict()
    certified = {
        "dataset_sha256": dataset_sha256(dataset),
        "rows": len(rows),
        "schema_version": SCHEMA_VERSION,
        "rows_by_split": {split: int(by_split[split]) for split in SPLITS if split in by_split},
    }
    certificate = Path(certificate)
    certificate.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_text(json.dumps(certified, indent=2) + "\n")
    rules = sum(len(outcome.rules) for outcome in outcomes.values())
    return {**clock.summary(), **certified, "rules": rules, "config_hash": config.hash}


def _name(file: Path, dataset: Path) -> str:
    return file.name if file == dataset else file.relative_to(dataset).as_posix()


def _file_table(files: list[Path], dataset: Path) -> pd.DataFrame:
    lines = []
    for file in files:
        try:
            faults = schema_faults(pq.read_schema(file))
        except (pa.ArrowInvalid, OSError) as error:
            faults = [str(error)]
        lines.append({"file": _name(file, dataset), "schema_true": not faults, "notes": "; ".join(faults)})
    return pd.DataFrame(lines).assign(row=None, level_id=None)


def _row_table(
    config: ValidateTasksConfig, files: list[Path], dataset: Path
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """One line a row with its facts, without its media; and a whole row of each family, difficulty and texture."""
    total = sum(pq.read_metadata(file).num_rows for file in files)
    lines: list[dict[str, Any]] = []
    samples: dict[tuple[str, ...], dict[str, Any]] = {}
    with Progress(config.STAGE, total, unit="level") as progress:
        for line, values in _lines(files, dataset):
            lines.append(line)
            look = tuple(str(values[name]) for name in ("family", "difficulty", "texture"))
            if look not in samples or (samples[look]["video"] is None and values["video"] is not None):
                samples[look] = values
            progress.update(len(lines))
    rows = pd.DataFrame(lines)
    splits = rows.groupby("layout_id")["split"].transform("nunique")
    rows["layout_in_one_split"] = (splits == 1).astype(object).where(splits.notna(), None)
    return rows, [samples[look] for look in sorted(samples)][:_SAMPLES]


def _lines(files: list[Path], dataset: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """For each row its line of facts, and the row itself."""
    for file in files:
        number = 0
        parquet = pq.ParquetFile(file)
        lossless = (parquet.schema_arrow.metadata or {}).get(b"wan_r1.lossless") == b"true"
        for group in range(parquet.num_row_groups):
            for values in parquet.read_row_group(group, columns=TASK_SCHEMA.names).to_pylist():
                kept = {name: values[name] for name in _KEPT}
                facts = row_facts(values, lossless=lossless)
                yield {"file": _name(file, dataset), "row": number, **kept, **facts}, values
                number += 1


def _refuse(outcomes: dict[str, Outcome], report: Path) -> None:
    """Raise the error that names the first fault, if there is one."""
    broken = [rule for outcome in outcomes.values() for rule in outcome.broken]
    if not broken:
        return
    places = {(place["file"], place["row"]) for rule in broken for place in rule.broken}
    # A cause comes before what follows from it, and a rule that names its rows before one that does not.
    first = min(broken, key=lambda rule: not rule.broken)
    count = f"{len(places)} rows break" if len(places) != 1 else "1 row breaks"
    raise DataContractError(
        f"{_describe(first)} ({count} {len(broken)} of the rules: {', '.join(rule.name for rule in broken)}; {report} "
        "lists them)"
    )


def _describe(rule: Rule) -> str:
    if not rule.broken:
        return f"the data set breaks the rule {rule.name!r}: {rule.text}; found {rule.found}"
    place = rule.broken[0]
    where = f"{place['file']}"
    if place["row"] is not None:
        where += f", row {place['row']}, level {place['level_id']}"
    why = f": {place['notes']}" if place["notes"] else ""
    return f"{where} breaks the rule {rule.name!r} ({rule.text}){why}"
