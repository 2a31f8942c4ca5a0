"""Layers: plain functions over values and axes whose parameters stand under a name.

@layer
def linear(x, src, dst, *, bias=True): ...
linear(x, c, e, name="up")              # keys `up.weight`, `up.bias`
linear(x, c, e, name="")                # spliced: `weight`, `bias`
down = linear.once(name="down")         # one set of parameters, however often it is called

A layer refuses an argument with `refuse`, whose place is the user's call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Generic, NoReturn, TypeVar, cast

from ..errors import PlaitError
from ..mistakes import InvalidArgument, InvalidHeader, MissingName
from .trace import Sharing, bound_name, here, needed, report, scope

Result = TypeVar("Result")


class Layer(Generic[Result]):
    """A function that takes `name=` beside its own arguments and prefixes its keys with it."""

    def __init__(self, function: Callable[..., Result]) -> None:
        self._function = function
        self._called = getattr(function, "__name__", "layer")
        if "name" in inspect.signature(function).parameters:
            raise InvalidHeader(
                f"the layer `{self._called}` has an argument `name` of its own", at=here(), label="here",
                helps=["a layer's `name=` is taken by the decorator; give the argument another name"],
            )  # fmt: skip
        update_wrapper(cast("Callable[..., Result]", self), function)

    def __call__(self, *arguments: object, name: str | None = None, **options: object) -> Result:
        """Call the function with its keys under `name`, which `""` splices into those around it.

        Raises MissingName without one, InvalidArgument outside a mixer's body.
        """
        trace = needed(self._called)
        with scope(trace, _checked(name, self._called)):
            return self._function(*arguments, **options)

    def once(self, *, name: str | None = None) -> Shared[Result]:
        """The layer under one name: every call has the parameters of the first."""
        return Shared(self._function, _checked(name, self._called), self._called)

    def __repr__(self) -> str:
        return f"<layer {self._called}>"


class Shared(Generic[Result]):
    """A layer whose calls share their parameters."""

    def __init__(self, function: Callable[..., Result], name: str, called: str) -> None:
        self._function = function
        self._name = name
        self._called = called
        self._sharing = Sharing()

    def __call__(self, *arguments: object, **options: object) -> Result:
        with scope(needed(self._called), self._name, self._sharing):
            return self._function(*arguments, **options)

    def __repr__(self) -> str:
        return f'<layer {self._called}.once(name="{self._name}")>'


def layer(function: Callable[..., Result]) -> Layer[Result]:
    """Make a layer of a function over values and axes."""
    return Layer(function)


def refuse(message: str, *helps: str) -> NoReturn:
    """Refuse a Python argument of a layer: raises InvalidArgument at the user's expression.

    `message` is one sentence without a full stop; `helps` say what would be legal.
    """
    raise InvalidArgument(message, at=here(), label="here", helps=helps)


def _checked(name: str | None, layer: str) -> str:
    """The name as a prefix; a mistake about it is reported, and a name of its own stands in."""
    if name is None:
        report(_without_name(layer))
        return bound_name(layer)
    if not isinstance(name, str) or name.strip() != name or name.endswith("."):  # pyright: ignore[reportUnnecessaryIsInstance]
        error = InvalidArgument(
            f"`{layer}` cannot have the name {name!r}", at=here(), label="here",
            helps=['a name is a key prefix such as "norm1" or "blocks.0"; `""` adds none'],
        )  # fmt: skip
        report(error)
        return bound_name(layer)
    return name


def _without_name(layer: str) -> PlaitError:
    return MissingName(
        f"the layer `{layer}` needs a name for its parameters", at=here(), label="no `name=`",
        helps=[
            f'write `{layer}(..., name="{layer}")`; `name=""` puts its parameters beside those around it',
            f'to share parameters between calls: `f = {layer}.once(name="{layer}")`',
        ],
    )  # fmt: skip
