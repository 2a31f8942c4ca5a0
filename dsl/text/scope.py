"""What names mean at one place of a text: values, static arguments, axes; and what is said where
they mean nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from ..errors import Label, PlaitError
from ..mistakes import KindMismatch, ShadowedName, UnknownAxis, UnknownName
from ..program import Axis, Const, Coordinate, Form, Leaf, Scalar
from ..source import Span
from ..words import CALLS, CONSTANTS, RESERVED
from .syntax import Name

VALUES: Mapping[str, Scalar] = {
    "true": True,
    "false": False,
    "inf": math.inf,
    "nan": math.nan,
    "pi": math.pi,
}


@dataclass(slots=True)
class Scope:
    """The names of one mixer, as far as they are given.

    A value is None where a mistake, already reported, stands behind it. `later` are the places of
    names that some line below gives, `waiting` the inputs over axes that some line below makes.
    """

    values: dict[str, Form | None] = field(default_factory=dict[str, Form | None])
    statics: dict[str, Const | str] = field(default_factory=dict[str, Const | str])
    axes: dict[str, Axis | None] = field(default_factory=dict[str, Axis | None])
    places: dict[str, Span] = field(default_factory=dict[str, Span])
    later: dict[str, Span] = field(default_factory=dict[str, Span])
    waiting: dict[str, str] = field(default_factory=dict[str, str])

    # --- giving

    def check_new(self, name: Name, among: Collection[str], what: str) -> None:
        """Raise ShadowedName where the name has a meaning that the new one would hide."""
        word = not name.quoted and (name.text in RESERVED or name.text in CONSTANTS)
        if word:
            raise ShadowedName(
                f"`{name.text}` is a word of the language", at=name.span, label=f"given to {what}",
                helps=[f"choose another name, or write it in quotes everywhere: `\"{name.text}\"`"],
            )  # fmt: skip
        if name.text in among:
            first = self.places.get(name.text)
            raise ShadowedName(
                f"`{name.text}` is given twice", at=name.span, label="given again here",
                labels=[Label(first, "first given here")] if first is not None else [],
                helps=["choose another name; a name keeps its meaning to the end of the mixer"],
            )  # fmt: skip

    def give_axis(self, name: Name, axis: Axis | None) -> None:
        """Raises ShadowedName where a value or another axis has the name."""
        self.check_new(name, {*self.values, *self.statics, *self.axes}, "an axis")
        self.axes[name.text] = axis
        self.places.setdefault(name.text, name.span)

    def give(self, name: Name, value: Form | None, is_output: bool) -> None:
        """Raises ShadowedName where a value has the name, or an axis; an output may be named as one."""
        axes = () if is_output else self.axes
        self.check_new(name, {*self.values, *self.statics, *axes}, "a value")
        self.values[name.text] = value
        self.places[name.text] = name.span

    # --- reading

    def axis(self, name: Name) -> Axis | None:
        """The axis of this name; None after a mistake. Raises UnknownAxis."""
        if name.text in self.axes:
            return self.axes[name.text]
        raise self.unknown_axis(name)

    def value(self, name: Name) -> Form | None:
        """What an expression means by the name, at its place; None after a mistake.

        In quotes it is a value or a static argument. Without, it may be a constant or an axis, whose
        value is its index; raises ShadowedName where it could be both, UnknownName where it is none.
        """
        if not name.quoted and name.text in VALUES:
            written = name.text if name.text == "pi" else None
            return Const(VALUES[name.text], span=name.span, written=written)
        axis = name.text in self.axes and not name.quoted
        found = name.text in self.values or name.text in self.statics
        if axis and found:
            raise ShadowedName(
                f"`{name.text}` is a value and an axis here", at=name.span, label="which of them?",
                helps=[f'write `"{name.text}"` for the value, `index({name.text})` for the axis'],
            )  # fmt: skip
        if axis:
            whose = self.axes[name.text]
            return None if whose is None else Coordinate(whose, span=name.span)
        if name.text in self.values:
            return _here(self.values[name.text], name.span)
        if name.text in self.statics:
            return _static(self.statics[name.text], name)
        raise self.unknown(name)

    # --- nothing of that name

    def unknown(self, name: Name) -> PlaitError:
        """The mistake of a name that nothing gives."""
        if name.text in self.waiting:
            axis = self.waiting[name.text]
            return UnknownName(
                f"input `{name.text}` is used before its axis `{axis}` is made", at=name.span, label="used here",
                labels=[Label(self.later[axis], f"makes the axis `{axis}` of the header")],
                helps=["move that line up; for another axis than the header's, choose another name"],
            )  # fmt: skip
        if name.text in self.later:
            return UnknownName(
                f"`{name.text}` is used before it is given", at=name.span, label="used here",
                labels=[Label(self.later[name.text], "given here")],
            )  # fmt: skip
        known = [*self.values, *self.statics, *self.axes, *CALLS]
        return UnknownName(
            f"there is no `{name.text}` here", at=name.span, label="nothing has this name",
            helps=_dotted(name.text, self.axes) or nearest(name.text, known),
        )  # fmt: skip

    def unknown_axis(self, name: Name) -> PlaitError:
        """The mistake of an axis that neither the header nor the body makes."""
        shown = ", ".join(self.axes) or "none"
        if name.text in self.later:
            return UnknownAxis(
                f"axis `{name.text}` is used before it is made", at=name.span, label="used here",
                labels=[Label(self.later[name.text], "made here")],
            )  # fmt: skip
        helps = nearest(name.text, self.axes)
        if not helps and name.text not in self.values:
            helps = [f"`axis {name.text}: size` makes an axis; `near`, `span` and `like` do too"]
        return UnknownAxis(
            f"there is no axis `{name.text}` here", at=name.span, label="no axis has this name",
            notes=[f"axes in scope: {shown}"], helps=helps,
        )  # fmt: skip


def _here(form: Form | None, span: Span) -> Form | None:
    """A tensor is used where it is named; other values stay where they were made."""
    if not isinstance(form, Leaf):
        return form
    return Leaf(form.role, form.name, form.over, form.declared, form.ranges_over, span=span)


def _static(value: Const | str, name: Name) -> Const:
    if isinstance(value, str):
        raise KindMismatch(
            f"the static argument `{name.text}` is a text, which no value is made of", at=name.span, label="here",
            helps=["a text can be handed on to another mixer: `f(x; mode = mode)`"],
        )  # fmt: skip
    return Const(value.value, span=name.span, written=value.written)


def nearest(name: str, known: Collection[str]) -> list[str]:
    """The help that names the known name most like this one, if one is."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return [f"did you mean `{found[0]}`?"] if found else []


def _dotted(name: str, axes: Collection[str]) -> list[str]:
    """What Python writes with a dot."""
    before, _, after = name.rpartition(".")
    if after == "size" and before in axes:
        return [f"write `size({before})`"]
    if before and after in ("sum", "mean", "max", "min", "prod", "lse", "count", "any", "all", "argmax"):
        return [f"write `{after}[d]({before})`"]
    if before and after in ("otherwise", "last", "like"):
        usual = {"otherwise": f"{before} otherwise y", "last": f"last({before})", "like": f"like s: {before}"}
        return [f"write `{usual[after]}`"]
    return []
