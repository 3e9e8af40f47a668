"""Whole numbers inside settings, which Kubeflow's local runner makes floats on their way to a component."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kfp.local import executor_input_utils


@contextlib.contextmanager
def whole_numbers() -> Iterator[None]:
    """Hand settings over as a cluster does: 3, not 3.0, and names in order.

    A parameter's value is a protobuf struct on its way, whose numbers are all floats. Kubeflow's launcher writes it as
    JSON with 3 for 3.0 and names sorted; the local runner does so for parameters that are integers, but not within
    lists and objects. An arm of a sweep is named after its settings, which would read ``group_size=3.0``.
    """
    original = executor_input_utils.executor_input_to_dict

    def convert(*arguments: Any, **options: Any) -> dict[str, Any]:
        executor_input = original(*arguments, **options)
        values = executor_input.get("inputs", {}).get("parameterValues", {})
        values.update({name: whole(value) for name, value in values.items() if isinstance(value, dict | list)})
        return executor_input

    executor_input_utils.executor_input_to_dict = convert
    try:
        yield
    finally:
        executor_input_utils.executor_input_to_dict = original


def whole(value: Any) -> Any:
    """A JSON value with whole numbers as integers and names in order."""
    if isinstance(value, dict):
        return {name: whole(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
