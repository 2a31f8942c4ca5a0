"""What the layers share: axes as arguments, one setting for all of them or one each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import TypeVar

from .. import AxisValue, Initialiser, Value, param, refuse

Setting = TypeVar("Setting")

Axes = AxisValue | Sequence[AxisValue]
"""One axis, or several in a tuple."""

Over = AxisValue | EllipsisType | Sequence[AxisValue | EllipsisType]
"""The same where the batch `...` may be among them."""

Whole = int | Value
"""A size: a number, or a value of sizes."""

Activation = Callable[[Value], Value]

Init = Initialiser | float | None


def listed(axes: Axes) -> tuple[AxisValue, ...]:
    """The axes as a tuple."""
    return (axes,) if isinstance(axes, AxisValue) else tuple(axes)


def several(over: Over) -> tuple[AxisValue | EllipsisType, ...]:
    """The axes, `...` among them, as a tuple."""
    return (over,) if isinstance(over, AxisValue | EllipsisType) else tuple(over)


def item(axes: Axes) -> AxisValue | tuple[AxisValue, ...]:
    """The axes as one dimension of a parameter: several are packed, row-major."""
    found = listed(axes)
    return found[0] if len(found) == 1 else found


def each(setting: Setting | Sequence[Setting], axes: Sequence[AxisValue], what: str) -> tuple[Setting, ...]:
    """The setting of each axis: one for all, or one each. Raises InvalidArgument."""
    if not isinstance(setting, tuple | list):
        return tuple(setting for _ in axes)  # pyright: ignore[reportReturnType]
    if len(setting) != len(axes):
        refuse(f"`{what}` has {len(setting)} entries for {len(axes)} axes")
    return tuple(setting)


def whole(setting: int | Sequence[int], axes: Sequence[AxisValue], what: str, least: int) -> tuple[int, ...]:
    """`each` of numbers that must be at least `least`. Raises InvalidArgument."""
    found = each(setting, axes, what)
    for number in found:
        if not isinstance(number, int) or number < least:
            refuse(f"`{what}` is a whole number of at least {least}, and this is {number!r}")
    return found


def chosen(word: str, words: Sequence[str], what: str) -> str:
    """The word, which must be one of `words`. Raises InvalidArgument."""
    if word not in words:
        refuse(f"`{what}` is one of {', '.join(words)}, and this is {word!r}")
    return word


def affine(y: Value, over: Over, weight: bool, bias: bool) -> Value:
    """`weight * y + bias` with parameters of these names over the axes, begun at 1 and 0.

    Raises InvalidArgument for a parameter over `...`.
    """
    axes = [each for each in several(over) if isinstance(each, AxisValue)]
    if (weight or bias) and len(axes) < len(several(over)):
        refuse("the weight and the bias are over `...`, and a parameter has no batch",
               "say what they are over: `affine_over=c`, or leave them out: `weight=False, bias=False`")  # fmt: skip
    if weight:
        y = param("weight", *axes, init=1) * y
    return y + param("bias", *axes, init=0) if bias else y
