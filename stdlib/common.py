"""What the layers share: their arguments held to what they may be, at the call that gave them.

Every refusal is an InvalidArgument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import EllipsisType
from typing import TypeVar, cast

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
    return tuple(_axis(each) for each in _items(axes))


def several(over: Over) -> tuple[AxisValue | EllipsisType, ...]:
    """The axes, `...` among them, as a tuple."""
    return tuple(each if each is ... else _axis(each) for each in _items(over))


def paired(over: Axes, into: Axes) -> tuple[tuple[AxisValue, AxisValue], ...]:
    """Each axis with the one that it becomes."""
    axes, targets = listed(over), listed(into)
    if len(axes) != len(targets):
        refuse(f"`into` names {len(targets)} axes for {len(axes)}")
    return tuple(zip(axes, targets, strict=True))


def _items(axes: object) -> tuple[object, ...]:
    if isinstance(axes, Iterable) and not isinstance(axes, AxisValue | str):
        return tuple(cast("Iterable[object]", axes))
    return (axes,)


def _axis(found: object) -> AxisValue:
    if isinstance(found, AxisValue):
        return found
    if found is ...:
        refuse("an axis is needed here, and the axes of `...` have no names")
    helps = [f'axes are objects: `{found} = axes("{found}")`'] if isinstance(found, str) else []
    refuse(f"an axis is needed here, and found {found!r}", *helps)


def item(axes: Axes) -> AxisValue | tuple[AxisValue, ...]:
    """The axes as one dimension of a parameter: several are packed, row-major."""
    found = listed(axes)
    return found[0] if len(found) == 1 else found


def each(setting: Setting | Sequence[Setting], axes: Sequence[AxisValue], what: str) -> tuple[Setting, ...]:
    """The setting of each axis: one for all, or one each."""
    if not isinstance(setting, tuple | list):
        return tuple(setting for _ in axes)  # pyright: ignore[reportReturnType]
    if len(setting) != len(axes):
        refuse(f"`{what}` has {len(setting)} entries for {len(axes)} axes")
    return tuple(setting)


def whole(setting: int | Sequence[int], axes: Sequence[AxisValue], what: str, least: int) -> tuple[int, ...]:
    """`each` of whole numbers that must be at least `least`."""
    return tuple(whole_number(number, what, least) for number in each(setting, axes, what))


def whole_number(number: int, what: str, least: int = 1) -> int:
    """The number, which must be a whole one of at least `least`."""
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        refuse(f"`{what}` is a whole number of at least {least}, and this is {number!r}")
    return number


def positive(number: float, what: str) -> float:
    """The number, which must be above 0."""
    if not isinstance(number, int | float) or not number > 0:
        refuse(f"`{what}` is a number above 0, and this is {number!r}")
    return number


def demand_entries(given: Sequence[object], number: int, what: str) -> None:
    """Refuse what is not `number` entries in a tuple."""
    if not isinstance(given, tuple | list) or len(given) != number:
        refuse(f"`{what}` has {number} entries, and this is {given!r}")


def function(given: Activation, what: str) -> Activation:
    """What is given, which must be a function of a value."""
    if not callable(given):
        refuse(f"`{what}` is a function of a value, and this is {given!r}",
               f"pass the layer itself: `from plait.stdlib import gelu`, then `{what}=gelu`")  # fmt: skip
    return given


def chosen(word: str, words: Sequence[str], what: str) -> str:
    """The word, which must be one of `words`."""
    if word not in words:
        refuse(f"`{what}` is one of {', '.join(words)}, and this is {word!r}")
    return word


def affine(y: Value, over: Over, weight: bool, bias: bool) -> Value:
    """`weight * y + bias` with parameters of these names over the axes, begun at 1 and 0; none may be over `...`."""
    axes = [each for each in several(over) if isinstance(each, AxisValue)]
    if (weight or bias) and len(axes) < len(several(over)):
        refuse("the weight and the bias are over `...`, and a parameter has no batch",
               "say what they are over: `affine_over=c`, or leave them out: `weight=False, bias=False`")  # fmt: skip
    if weight:
        y = param("weight", *axes, init=1) * y
    return y + param("bias", *axes, init=0) if bias else y
