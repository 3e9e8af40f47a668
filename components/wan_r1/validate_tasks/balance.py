"""Whether the classes of levels are about equally many, as a fact about the first row of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.textures import TEXTURES

if TYPE_CHECKING:
    import pandas as pd

SLACK = 3
"""Levels by which classes may always differ: difficulties take turns, and textures do after a round of them."""

_CLASSES = ((("split",), "family"), (("split", "family"), "difficulty"), (("split", "family"), "texture"))
"""Which values are counted, and within what."""


def balance_text(most: float) -> str:
    """The rule in words."""
    return (
        f"of families in a split, and of difficulties and textures in a family's split, none has more than {most:g} "
        f"times the levels of another, and {SLACK} (validate_balance; 0 asks for none)"
    )


def tell_balance(rows: pd.DataFrame, most: float) -> pd.DataFrame:
    """The rows with the column ``class_balanced``, null but for the first row of each class.

    Args:
        rows: as of `wan_r1.validate_tasks.contract.check_rows`. Levels in skins from elsewhere belong to no class: how
            many there are of a sort, their authors decide.
        most: most levels of a class as a multiple of those of another; 0 asks for nothing.

    Returns:
        A copy, in which the notes of a first row say what its class lacks.
    """
    rows = rows.assign(class_balanced=None)
    ours = rows[rows["texture"].isin(list(TEXTURES)) & rows["difficulty"].isin(DIFFICULTIES)]
    for within, name in _CLASSES if most else ():
        counts = ours.groupby([*within, name]).size()
        commonest = counts.groupby(level=list(within)).transform("max")
        firsts = ours.drop_duplicates([*within, name]).set_index([*within, name]).index
        places = dict(zip(firsts, ours.drop_duplicates([*within, name]).index, strict=True))
        for key, count in counts.items():
            place = places[key]
            enough = bool(commonest[key] <= most * count + SLACK)
            if rows.at[place, "class_balanced"] is not False:
                rows.at[place, "class_balanced"] = enough
            if not enough:
                where = ", ".join(str(part) for part in key[:-1])
                note = f"{count} levels of {name} {key[-1]} in {where}, but {commonest[key]} of another {name}"
                rows.at[place, "notes"] = "; ".join(part for part in (rows.at[place, "notes"], note) if part)
    return rows
