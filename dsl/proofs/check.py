"""Everything that can be known of a program before it is called, all mistakes together."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import PlaitError, raise_all
from ..memo import Memo
from ..mistakes import InvalidSize, UnknownAxis
from ..program import Axis, Program
from ..shapes.size_forms import Extent, closed, form_axes, is_batch, is_empty
from ..shapes.size_rules import all_sizes_known
from .absence import absent
from .rules import WHOLE, WRITTEN
from .totality import Analysis, Finding, absence_at, analyse

MOST_REMEMBERED = 4096
"""How many assignments of sizes are remembered of one program."""

_analysis: Memo[Analysis] = Memo(analyse)
_empty: Memo[Analysis] = Memo(lambda program: analyse(program, empty_batch=True))
_seen: Memo[set[object]] = Memo(lambda program: set())


def check(program: Program, *, derived: bool = False, sized: bool = True) -> tuple[Finding, ...]:
    """Raise every mistake of the program together; return what is left open: values that `check_sizes`
    must see present for each new assignment of sizes.

    A `derived` program (a gradient) may leave inputs unused; one that is not `sized` yet (a mixer at its
    definition) may have axes whose sizes are only given later. Presence is looked at where sizes and axes
    are in order.
    """
    written = () if derived else WRITTEN
    rules = (*WHOLE, *written, all_sizes_known) if sized else (*WHOLE, *written)
    mistakes: list[PlaitError] = [mistake for rule in rules for mistake in rule(program)]
    if any(isinstance(mistake, InvalidSize | UnknownAxis) for mistake in mistakes):
        raise_all(mistakes)
    analysis = _analysis(program)
    mistakes += [absent(finding, absence, analysis.presence) for finding, absence in analysis.refuted]
    raise_all(mistakes)
    return analysis.open


def findings(program: Program) -> tuple[Finding, ...]:
    """What is open of a program that `check` let pass."""
    return _analysis(program).open


def check_sizes(program: Program, sizes: Mapping[Axis, Extent], *, where: str = "") -> None:
    """Evaluate what is open for one assignment of sizes, once; `where` is the place of the call.

    Raises AbsentOutput for the first value that is absent, with the first index where it is. A batch
    without entries is an assignment of its own: what is reduced over it is then absent.
    """
    empty = any(is_empty(sizes[axis]) for axis in sizes if is_batch(axis))
    analysis = _empty(program) if empty else _analysis(program)
    for finding in analysis.open:
        if empty and any(is_empty(sizes[axis]) for axis in finding.form.axes if axis in sizes):
            continue
        own = closed((*form_axes((finding.predicate,)), *finding.form.axes))
        key = (finding.predicate, tuple((axis.key, sizes[axis]) for axis in own if axis in sizes))
        seen = _seen(program)
        if key in seen:
            continue
        absence = absence_at(finding.predicate, sizes)
        if absence is not None:
            raise absent(finding, absence, analysis.presence, where or "these sizes")
        if len(seen) >= MOST_REMEMBERED:
            seen.clear()
        seen.add(key)
