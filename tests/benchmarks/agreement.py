"""Agreement of verification with a slow, independent reader (tests/unit/slow_reader.py) on videos that models made.

    PYTHONPATH=components python tests/benchmarks/agreement.py DATASET SCORES.parquet... [--each 30] [--keep FOLDER]

``SCORES`` are tables of the evaluate stage. From each, up to ``--each`` failed videos per split and family are drawn by
a fixed seed, and a third as many solved ones. Disagreements are listed, and kept as npz files if a folder is given.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from slow_reader import read

from wan_r1.tasks.dataset import read_tasks
from wan_r1.tasks.video import decode_video
from wan_r1.verification import verify

COLUMNS = ["model", "split", "family", "level_id", "em", "video"]


def main() -> None:
    """Print agreement and every disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    parser.add_argument("--each", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    tasks = {task.level_id: task for task in read_tasks(given.dataset, videos=False)}
    rng = np.random.default_rng(given.seed)
    counts: Counter[str] = Counter()
    for file in given.scores:
        table = pq.read_table(file, columns=COLUMNS[:-1]).to_pylist()
        order = rng.permutation(len(table))
        taken: Counter[tuple] = Counter()
        rows = []
        for i in order:
            key = tuple(table[i][name] for name in ("split", "family", "em"))
            if taken[key] < (given.each // 3 if table[i]["em"] else given.each):
                taken[key] += 1
                rows.append(int(i))
        for row in pq.read_table(file, columns=COLUMNS).take(rows).to_pylist():
            task, video = tasks[row["level_id"]], decode_video(row["video"]["bytes"])
            (fast,) = verify(video[None], [task])
            slow = read(video, task)
            counts["videos"] += 1
            counts["imperfect"] += not fast.em
            counts["exact match agrees"] += fast.em == slow.em
            counts["success agrees"] += fast.sr == slow.sr
            counts["rules agree"] += fast.kept_rules == (slow.broken is None)
            if (fast.em, fast.sr) != (slow.em, slow.sr):
                first = fast.violations[0] if fast.violations else None
                print(f"{row['model']} {row['level_id']} fast em={fast.em} sr={fast.sr} {first}; slow {slow}")
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    name = f"{row['model'].replace(':', '_')}_{row['level_id']}.npz"
                    np.savez_compressed(given.keep / name, video=video, level_id=row["level_id"])
    total = counts.pop("videos")
    print(f"{total} videos, {counts.pop('imperfect')} of them no exact match; seed {given.seed}")
    for name, count in counts.items():
        print(f"{name}: {count} of {total}, {100 * count / total:.2f} %")


if __name__ == "__main__":
    main()
