"""The families of levels: every module here that defines ``FAMILY``, by the family's name.

A new family is one new module; see `wan_r1.tasks.family`.
"""

from __future__ import annotations

import importlib
import pkgutil

from wan_r1.config import ConfigError
from wan_r1.tasks.family import Family


def _discover() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for entry in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        family = getattr(module, "FAMILY", None)
        if family is not None:
            found[family.name] = family
    return found


FAMILIES: dict[str, Family] = _discover()
"""Every family by name."""


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ConfigError: if there is none, naming the ones there are.
    """
    if name not in FAMILIES:
        raise ConfigError(f"family={name!r} is unknown; allowed: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]
