"""Stage configurations: frozen keyword-only dataclasses, presets and parameters that name what is wrong.

A stage's config is a dataclass that derives from `StageConfig`. A preset is a TOML file in `wan_r1/presets` with one
table a stage. Parameters given by a user are laid over the preset; pipelines name them ``<prefix>_<field>``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from typing import Any, ClassVar, Self


class ConfigError(ValueError):
    """A parameter is unknown or has a value that cannot work. The message names it, its value and what is allowed."""


def presets() -> list[str]:
    """Names of the presets in the package."""
    folder = resources.files("wan_r1") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_preset(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a preset, one a stage.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in presets():
        raise ConfigError(f"preset={name!r} is unknown; allowed: {', '.join(presets())}{_nearest(name, presets())}")
    text = (resources.files("wan_r1") / "presets" / f"{name}.toml").read_text()
    return tomllib.loads(text)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Base of every stage's config: checked types, presets, a stable hash."""

    STAGE: ClassVar[str] = ""
    """The stage's table in a preset."""
    PREFIX: ClassVar[str] = ""
    """What a pipeline puts before a field's name."""

    seed: int = 0
    """Seed of all randomness of the stage."""

    def __post_init__(self) -> None:
        for field, kind in self._kinds().items():
            object.__setattr__(self, field, _convert(self._shown(field), getattr(self, field), kind))
        self.require("seed", self.seed >= 0, "a whole number from 0")
        self.validate()

    def validate(self) -> None:
        """Checks of values that types cannot express; stages override it and call `require`."""

    def require(self, field: str, holds: bool, allowed: str) -> None:
        """Raise a `ConfigError` that names the parameter, its value and what is allowed, unless ``holds``."""
        if not holds:
            raise ConfigError(f"{self._shown(field)}={getattr(self, field)!r} is not allowed; expected {allowed}")

    def require_choice(self, field: str, choices: typing.Iterable[str]) -> None:
        """Raise a `ConfigError` unless the field's value is one of ``choices``."""
        value, known = getattr(self, field), sorted(choices)
        if value not in known:
            hint = _nearest(str(value), known)
            raise ConfigError(f"{self._shown(field)}={value!r} is unknown; allowed: {', '.join(known)}{hint}")

    @classmethod
    def from_preset(cls, preset: str, overrides: dict[str, Any] | None = None) -> Self:
        """The preset's table of this stage with a user's values laid over it.

        Args:
            preset: name of a preset.
            overrides: values by field name, without prefix; ``None`` values leave the preset's.

        Raises:
            ConfigError: if a name or a value is wrong.
        """
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        return cls.build({**read_preset(preset).get(cls.STAGE, {}), **given})

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """A config from values by field name; unknown names are refused with the nearest known one."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                hint = _nearest(name, known)
                fields_text = ", ".join(known)
                raise ConfigError(f"{cls.PREFIX}{name} is no parameter of {cls.STAGE}; it has: {fields_text}{hint}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `to_json`."""
        return cls.build(json.loads(text))

    def to_json(self) -> str:
        """All fields as JSON with sorted names."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in fields(cls)}

    @classmethod
    def _shown(cls, field: str) -> str:
        return field if field in ("seed", "threads") else f"{cls.PREFIX}{field}"

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default value of each field that has one."""
        return {field.name: field.default for field in fields(cls) if field.default is not MISSING}


def _nearest(name: str, known: list[str]) -> str:
    match = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {match[0]}?)" if match else ""


def _convert(name: str, value: Any, kind: Any) -> Any:
    """``value`` as ``kind``: exact types, whole floats for int (JSON numbers arrive as floats), lists as tuples."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType or origin is typing.Union:
        arms = [arm for arm in typing.get_args(kind) if arm is not type(None)]
        return None if value is None else _convert(name, value, arms[0])
    if origin is tuple:
        item = typing.get_args(kind)[0]
        if isinstance(value, str):
            value = [part for part in (piece.strip() for piece in value.split(",")) if part]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}={value!r} is not a list")
        return tuple(_convert(name, entry, item) for entry in value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        return int(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    raise ConfigError(f"{name}={value!r} is not of type {getattr(kind, '__name__', kind)}")
