"""Config fields as words of a command line: their values and their documentation."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import types
import typing
from dataclasses import fields
from typing import Any

from wan_r1.config import StageConfig


def field_value(config: type[StageConfig], field: str, text: str) -> Any:
    """The value that a word stands for: as it is for text fields, JSON otherwise, lists also by commas.

    What it cannot read it returns as it is; the config then refuses it by name.
    """
    kind = _kind(config, field)
    if typing.get_origin(kind) is tuple:
        if text.lstrip().startswith("["):
            return _json(text)
        item = typing.get_args(kind)[0]
        pieces = [piece for piece in (part.strip() for part in text.split(",")) if piece]
        return pieces if item is str else [_json(piece) for piece in pieces]
    return text if kind is str else _json(text)


def field_form(config: type[StageConfig], field: str) -> str:
    """A field's type as one word for help texts."""
    kind = _kind(config, field)
    if typing.get_origin(kind) is tuple:
        return f"{typing.get_args(kind)[0].__name__},..."
    return {bool: "true|false"}.get(kind, kind.__name__)


def field_docs(config: type[StageConfig]) -> dict[str, str]:
    """The documentation string under each field, by field, inherited fields first."""
    docs: dict[str, str] = {}
    for one in reversed(config.__mro__):
        if not (isinstance(one, type) and issubclass(one, StageConfig)):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                value = following.value if isinstance(following, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docs[statement.target.id] = " ".join(value.value.split())
    return {field.name: docs.get(field.name, "") for field in fields(config)}


def _kind(config: type[StageConfig], field: str) -> Any:
    kind = typing.get_type_hints(config)[field]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return next(arm for arm in typing.get_args(kind) if arm is not type(None))
    return kind


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
