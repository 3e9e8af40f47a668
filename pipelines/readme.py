"""Write the README's generated parts: the pipeline's parameters, and the results of the committed demo run.

python pipelines/readme.py
"""

import json
from pathlib import Path

from full import full

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "tests" / "benchmarks" / "demo" / "results.json"
MODELS = ("base", "sft", "sft_continued", "grpo")


def parameter_table() -> str:
    """All parameters of the whole pipeline as a Markdown table, from its own signature and docstring."""
    lines = ["| parameter | default | meaning |", "| --- | --- | --- |"]
    for name, spec in (full.component_spec.inputs or {}).items():
        default = json.dumps(spec.default)
        meaning = " ".join((spec.description or "").split()).replace("|", "\\|")
        lines.append(f"| `{name}` | `{default}` | {meaning} |")
    return "\n".join(lines)


def results_table(results: dict) -> str:
    """A run's results as a Markdown table: exact match with its interval, and the other metrics, in percent."""
    lines = [
        "| split | family | model | n | exact match (95 %) | SR | PR | fidelity |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = {(row["split"], row["family"], row["model"]): row for row in results["rows"]}
    for split in ("test", "harder"):
        for family in sorted({key[1] for key in rows}):
            for model in MODELS:
                row = rows.get((split, family, model))
                if row:
                    em = f"{_percent(row['em'])} ({_percent(row['em_low'])} to {_percent(row['em_high'])})"
                    others = " | ".join(_percent(row[name]) for name in ("sr", "pr", "mf"))
                    lines.append(f"| {split} | {family} | {model} | {row['n']} | {em} | {others} |")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _between(text: str, name: str, content: str) -> str:
    """The text with what stands between a part's two marks replaced."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


def main() -> None:
    """Rewrite the generated parts."""
    path = ROOT / "README.md"
    text = _between(path.read_text(), "parameters", parameter_table())
    if RESULTS.exists():
        text = _between(text, "results", results_table(json.loads(RESULTS.read_text())))
    path.write_text(text)


if __name__ == "__main__":
    main()
