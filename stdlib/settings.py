"""A config held to the signature that reads it: which keys, which types, which values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .. import PlaitError
from ..dsl.errors import raise_all
from ..dsl.mistakes import InvalidArgument, UnknownArgument
from .catalogue import Operator, Settled


def settled(operator: Operator, config: Mapping[str, Any]) -> Settled:
    """What the config asks for.

    Raises every mistake in it together: UnknownArgument for keys, InvalidArgument for values.
    """
    keys = inspect.signature(operator.settle).parameters
    raise_all(list(_mistakes(operator, keys, config)))
    try:
        return operator.settle(**config)
    except Impossible as error:
        raise InvalidArgument(
            f"`{operator.name}` cannot have {error.found}",
            notes=[error.reason],
            facts={"config": dict(config)},
        ) from None


class Impossible(ValueError):
    """Values that are each of the right type and cannot be together."""

    def __init__(self, found: str, reason: str) -> None:
        super().__init__(f"{found}: {reason}")
        self.found = found
        self.reason = reason


def demand(holds: bool, reason: str, **found: object) -> None:
    """Raise Impossible unless it holds. `found` are the keys that it is about, with their values."""
    if not holds:
        raise Impossible(" and ".join(f"`{key} = {value!r}`" for key, value in found.items()), reason)


def demand_positive(**sizes: int | float) -> None:
    """Raise Impossible for a size that is not at least 1."""
    for key, size in sizes.items():
        demand(size >= 1, "a size is at least 1", **{key: size})


def demand_rate(**rates: float) -> None:
    """Raise Impossible for a probability of dropping that is not at least 0 and below 1."""
    for key, rate in rates.items():
        demand(0 <= rate < 1, "a rate is at least 0 and below 1", **{key: rate})


def _mistakes(
    operator: Operator, keys: Mapping[str, inspect.Parameter], config: Mapping[str, Any]
) -> Iterator[PlaitError]:
    known = f"keys of its config: {', '.join((*keys, 'mode'))}"
    for key in config:
        if key not in keys:
            near = get_close_matches(key, keys, 1, 0.6)
            yield UnknownArgument(
                f"`{operator.name}` has no config key `{key}`",
                notes=[known], helps=[f"did you mean `{near[0]}`?"] if near else [], facts={"key": key},
            )  # fmt: skip
    hints = get_type_hints(operator.settle)
    for key, parameter in keys.items():
        if key in config:
            if not _is(config[key], hints[key]):
                yield InvalidArgument(
                    f"`{operator.name}` cannot have `{key} = {config[key]!r}`",
                    notes=[f"`{key}` is {_words(hints[key])}"], facts={"key": key},
                )  # fmt: skip
        elif parameter.default is parameter.empty:
            yield UnknownArgument(
                f"`{operator.name}` needs the config key `{key}`",
                notes=[f"`{key}` is {_words(hints[key])}", known], facts={"key": key},
            )  # fmt: skip


def _is(value: object, hint: Any) -> bool:
    """Whether the value is of the annotated type. A whole number serves as a float; a bool is no number."""
    origin = get_origin(hint)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(hint))
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in get_args(hint))
    if origin is list:
        return isinstance(value, list | tuple) and all(_is(each, get_args(hint)[0]) for each in value)
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value) is hint


def _words(hint: Any) -> str:
    """The type as a sentence ends with it: `a whole number or null`."""
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(map(_words, get_args(hint)))
    if origin is list:
        return f"a list, each entry {_words(get_args(hint)[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", NoneType: "null"}
    return names[hint]
