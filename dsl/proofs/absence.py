"""The message for a value that is absent somewhere: the smallest case, what makes it so, how to mend it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Label
from ..mistakes import AbsentOutput
from ..program import At, Const, Form, Map, Otherwise
from ..shapes.size_forms import axis_range, closed, form_axes, is_batch, is_empty
from ..shapes.size_rules import in_python
from ..source import Span
from .grid import Grid, Place
from .presence import Presence, Reason, reads_data
from .totality import Absence, Finding


def absent(finding: Finding, absence: Absence, presence: Presence, where: str = "") -> AbsentOutput:
    """The mistake. `where` is the place of the call, for one that only its sizes show."""
    culprit = _culprit(finding.predicate, absence, presence)
    reason = culprit.reason
    at = (reason.index.span if reason and reason.index else None) or (reason.form.span if reason else None)
    at = at or finding.form.span or finding.span
    labels: list[Label] = []
    if finding.span is not None and at is not None and not _overlap(finding.span, at):
        labels.append(Label(finding.span, "must be present at every index"))
    surely = "is absent at some indices" if absence.surely else "may be absent for some data"
    return AbsentOutput(
        f"{finding.what} {surely}", at=at, label=_label(culprit, absence), labels=labels,
        notes=_notes(finding, absence, where), helps=_helps(reason, at),
        facts={"sizes": _sizes(finding, absence), "index": {a.name: i for a, i in absence.index.items()}},
    )  # fmt: skip


def _overlap(one: Span, other: Span) -> bool:
    return one.source == other.source and one.start < other.end and other.start < one.end


def _sizes(finding: Finding, absence: Absence) -> dict[str, int]:
    """The sizes that matter, by name."""
    own = closed((*form_axes((finding.predicate,)), *absence.index))
    found: dict[str, int] = {}
    for axis in own:
        size = absence.sizes.get(axis)
        if axis.size is None and isinstance(size, int) and not is_batch(axis):
            found[axis.name] = size
    return found


def _notes(finding: Finding, absence: Absence, where: str) -> list[str]:
    sizes = ", ".join(f"{name} = {size}" for name, size in _sizes(finding, absence).items())
    index = ", ".join(f"{axis.name} = {at}" for axis, at in absence.index.items())
    called = f"called at {where}" if where else "the smallest case"
    empty = any(is_batch(axis) and is_empty(size) for axis, size in absence.sizes.items())
    parts = ["with an empty `...`" if empty else "", f"with sizes {sizes}" if sizes else ""]
    parts.append(f"at index {index}" if index else "")
    said = ", ".join(part for part in parts if part)
    return [f"{called}: {said}"] if said else [called] if where else []


# --- what makes it absent


@dataclass(frozen=True, slots=True)
class _Culprit:
    """The innermost reason for an absence, and where it stands."""

    reason: Reason | None
    grid: Grid
    place: Place


def _culprit(predicate: Form, absence: Absence, presence: Presence) -> _Culprit:
    grid = Grid(absence.sizes)
    place = grid.point(predicate, absence.index)
    found = _Culprit(None, grid, place)
    part: Form | None = predicate
    while part is not None:
        if part in presence.reasons:
            found = _Culprit(presence.reasons[part], grid, place)
        match part:
            case Map(op="and" | "or", args=parts):
                part = next((each for each in parts if _fails(grid, each, place, absence.surely)), None)
            case Otherwise(value=At(value=value, indices=indices), fallback=Const(value=False)):
                there = grid.read(indices, place)
                part, place = (None, place) if there is None else (value, there)
            case Otherwise(value=value, fallback=Const(value=False)):
                part = value
            case _:
                part = None
    return found


def _fails(grid: Grid, part: Form, place: Place, surely: bool) -> bool:
    truth = grid.truth(part, place)
    return not (truth.maybe if surely else truth.sure).all()


def _label(culprit: _Culprit, absence: Absence) -> str:
    reason = culprit.reason
    if reason is None:
        return "absent here"
    match reason.cause:
        case "read":
            return _read_label(reason, culprit, absence)
        case "when":
            return "false there" if absence.surely else "may be false"
        case "reduction":
            return (
                "nothing is present there to reduce" if absence.surely else "there may be nothing to reduce"
            )
        case "optional":
            return "optional, and absent where it is not given"


def _read_label(reason: Reason, culprit: _Culprit, absence: Absence) -> str:
    axis, form = reason.axis, reason.index
    if axis is None or form is None:
        return "absent here"
    indices = axis_range(axis, absence.sizes)
    if reads_data(form):
        return f"may lie outside axis `{axis.name}`"
    at = culprit.grid.number(form, culprit.place)
    if at is None:
        return f"no index of axis `{axis.name}`"
    return f"{at} lies outside axis `{axis.name}`, which is {indices.start} .. {indices.stop - 1}"


def _helps(reason: Reason | None, at: Span | None) -> list[str]:
    """The ways to mend it, in the spelling of the source that the message points into."""
    python = in_python(at)

    def otherwise(value: str) -> str:
        return f"`.otherwise({value})`" if python else f"`... otherwise {value}`"

    if reason is None:
        return [f"say what holds there: {otherwise('0')}"]
    match reason.cause:
        case "read":
            return [f"say what holds outside: {otherwise('0')}", _inside(reason, python)]
        case "when":
            return [f"say what holds elsewhere: {otherwise('0')}, or `select(p, x, y)`"]
        case "reduction":
            widen = (
                "or let its `where=` keep an entry"
                if python
                else "or let the predicate after `|` keep an entry"
            )
            return [f"say what a reduction over nothing is: {otherwise('0')}", widen]
        case "optional":
            return [f"say what holds without it: {otherwise('0')}"]


def _inside(reason: Reason, python: bool) -> str:
    name = reason.axis.name if reason.axis else "h"
    size = f"{name}.size" if python else f"size({name})"
    if reason.index is not None and reads_data(reason.index):
        return f"or say that it is an index of `{name}`: declare it `: index {name}`, or write `trust(i, {name})`"
    return f"or keep the index inside: `clamp(i, 0, {size} - 1)`, `reflect(i, {size})`, `i % {size}`"
