"""The table of cheats: every way to cheat in tests/unit/cheats.py, by our strict rules and by VR-Bench's definitions.

PYTHONPATH=components python tests/benchmarks/cheats.py > tests/benchmarks/cheats.md
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from cheats import CHEATS, means

FORM = "slow"


def main() -> None:
    """Print the table as Markdown."""
    print("# Cheats under strict rules and under VR-Bench's definitions\n")
    print("Means over levels of both grid families in both textures (64 px, 49 frames, 0.2 cells a frame). `reward` is")
    print("the default reward, `half` what an honest video that stops half-way earns on the same levels. Made by")
    print("`python tests/benchmarks/cheats.py`. VR-Bench's metrics are computed on our track.\n")
    print("| cheat | breaks | videos | EM | SR | PR | MF | reward | half | VR-Bench EM | SR | PR | MF |")
    print("| --- | --- | ---: |" + " ---: |" * 10)
    fooled = []
    for name, cheat in CHEATS.items():
        row = means(name, FORM)
        strict = " | ".join(f"{row[key]:.2f}" for key in ("em", "sr", "pr", "mf", "reward", "half"))
        theirs = " | ".join(f"{row[f'vr_bench_{key}']:.2f}" for key in ("em", "sr", "pr", "mf"))
        print(f"| {name.replace('_', ' ')} | {cheat.breaks} | {row['videos']:.0f} | {strict} | {theirs} |")
        if row["vr_bench_em"] > 0:
            fooled.append((name, row["em"]))
    ours = sum(em > 0 for _, em in fooled)
    print(f"\n{len(CHEATS)} cheats; VR-Bench's exact match accepts {len(fooled)} of them at least once, ours {ours}.")


if __name__ == "__main__":
    main()
