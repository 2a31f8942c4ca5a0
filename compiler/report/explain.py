"""The report of a plan: what each kernel computes, how, at what cost and bound, and what is not fused and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import fill

from ...dsl.program import Axis
from ...dsl.shapes.size_forms import Extent
from ..fusion.plan import Group, Plan, Stored
from ..fusion.unfused import pairs_in_memory
from ..fusion.work import traffic, traffic_at
from ..kernels.written import Written
from ..pipeline import Planned
from ..schedules.phasing import Phasing
from .cost import Machine, kernel_cost, program_least, reference_cost
from .notes import Note, bytes_of, note, seconds
from .page import Page, page
from .room import Room
from .together import Together


@dataclass(frozen=True, slots=True)
class Report:
    """What `explain` and `verify` give: `str()` is the text, `to_html()` the same as one page that needs
    nothing else, with what can be drawn."""

    text: str
    ok: bool = True
    failures: tuple[str, ...] = ()
    drawn: tuple[Page, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def to_html(self) -> str:
        return page(self.text, self.drawn)

    def followed_by(self, others: Iterable[Report]) -> Report:
        """The reports one after another."""
        every = (self, *others)
        drawn = tuple(each for report in every for each in report.drawn)
        return replace(self, text="\n".join(each.text for each in every), drawn=drawn)


def explain(
    planned: Planned,
    written: Mapping[str, Written],
    sizes: Mapping[Axis, Extent] | None,
    *,
    machine: Machine | None = None,
    remarks: Sequence[str] = (),
    aside: Sequence[str] = (),
    phases: Phasing | None = None,
    room: Room | None = None,
) -> Report:
    """The report. `sizes` are those of a call, for numbers beside the formulas; `machine` bounds the time;
    `remarks` are what is known of calls; `aside` says of what the report is, where it is of no call;
    `phases` are the kernels that are launched as one; `room` is the memory between kernels."""
    plan = planned.plan
    notes = [_noted_group(group, planned, written, sizes, machine) for group in plan.groups]
    together = Together(planned, phases)
    outputs = {output.value for output in planned.program.outputs}
    least = None if sizes is None else program_least(written, plan.stored, outputs, sizes)
    before = [f"({each})" for each in aside]
    before += [*_total(notes, least, *together.total(notes, sizes, machine)), *_where(notes)]
    before += room.words() if room is not None else ()
    after = [*(f"rewritten: {each}" for each in planned.rewritten), *edges(planned, sizes), *remarks]
    shown = as_planned(planned)
    lines = [_head(plan, notes, together), *(_wrapped(f"  {each}", INDENT) for each in before)]
    for each in notes:
        lines += [_wrapped(f"  {words}", INDENT) for words in together.before(each.name, sizes, machine)]
        lines.append(f"  {together.phase(each.name)}{each.title}")
        lines += [_noted(what, words) for what, words in each.lines]
        lines += [_noted("apart", words) for words in together.apart(each.name)]
    lines += [_wrapped(f"  {each}", INDENT) for each in after]
    if len(plan.groups) > 1:
        lines += ["  as planned:", *(_wrapped(f"    {line}", INDENT + 4) for line in statements(shown))]
    drawn = Page(
        lines[0], tuple(before), tuple(after), shown, planned, tuple(notes), sizes, together, machine
    )
    return Report("\n".join(lines), drawn=(drawn,))


def _noted_group(
    group: Group,
    planned: Planned,
    written: Mapping[str, Written],
    sizes: Mapping[Axis, Extent] | None,
    machine: Machine | None,
) -> Note:
    stored, made = planned.plan.stored, written.get(group.result.name)
    cost = reference_cost(group, stored, sizes) if made is None else kernel_cost(made, stored, sizes)
    return note(group, planned, made, cost, sizes, machine)


COLUMNS, INSET, INDENT = 110, 15, 4


def _noted(what: str, words: str) -> str:
    """A line of a kernel's notes, broken where it is long."""
    return _wrapped(f"    {what:10} {words}", INSET)


def _wrapped(words: str, inset: int) -> str:
    body = words.lstrip()
    first = words[: len(words) - len(body)]
    return fill(body, COLUMNS, initial_indent=first, subsequent_indent=" " * inset, break_long_words=False)


def _head(plan: Plan, notes: Sequence[Note], together: Together) -> str:
    count = sum(each.fused for each in notes) - together.fewer
    rest = len(notes) - count - together.fewer
    head = f"{plan.program.name}: {count} kernel{'' if count == 1 else 's'}{together.words}"
    return head + (f", {rest} reference operation{'' if rest == 1 else 's'}" if rest else "")


def _total(notes: Sequence[Note], least: int | None, moved: int, time: float) -> Iterator[str]:
    """All kernels together, where they are several and the sizes are known: what they move and take at least."""
    flops = [each.cost.worked for each in notes]
    if len(notes) < 2 or None in flops:
        return
    bytes_ = f"{bytes_of(moved)} between memory and kernels at least"
    if least:
        bytes_ += f", {moved / least:.2f} times the {bytes_of(least)} of inputs and outputs"
    bound = f"; no less than {seconds(time)}" if time else ""
    yield f"together: {sum(each or 0 for each in flops):,.0f} FLOPs; {bytes_}{bound}"


MOST_PLACES, SHARE = 5, 0.05
"""Kernels that are named as taking most of the time, and the part of it that is worth a word."""


def _where(notes: Sequence[Note]) -> Iterator[str]:
    """Which kernels bound the time of a program that has several."""
    bounds = {each.name: each.bound.seconds for each in notes if each.bound is not None}
    total = sum(bounds.values())
    if len(bounds) < 3 or not total:
        return
    first = sorted(bounds, key=lambda name: -bounds[name])[:MOST_PLACES]
    parts = [f"{name} {bounds[name] / total:.0%}" for name in first if bounds[name] >= SHARE * total]
    if parts:
        yield f"most of the bound: {', '.join(parts)}"


# --- what is stored


def edges(planned: Planned, sizes: Mapping[Axis, Extent] | None) -> Iterator[str]:
    """How many edges are fused, then every value in memory between kernels: who reads it, and why it is stored."""
    plan = planned.plan
    fused = [edge for edge in plan.edges if edge.fused]
    if plan.edges:
        yield f"fused: {len(fused)} of {len(plan.edges)} edges"
    pairs = pairs_in_memory(plan, planned.parts)
    for stored in plan.stored.values():
        edge = next((each for each in plan.edges if each.value == stored.form and not each.fused), None)
        if edge is None:
            continue
        size = f"{traffic(stored.form)} bytes"
        if sizes is not None:
            size += f" = {bytes_of(traffic_at(stored.form, sizes))}"
        readers = ", ".join(_readers(plan, stored)) or "a result"
        kind, reason = ("not fused", pairs[stored.name]) if stored.name in pairs else ("stored", edge.reason)
        more = ", and it grows faster than inputs and results" if stored.name in pairs else ""
        yield f"{kind}: {stored.name} -> {readers}, because {reason} ({size} to write and read{more})"


def _readers(plan: Plan, stored: Stored) -> Iterator[str]:
    """The kernels that read a value, by their results."""
    for group in plan.groups:
        if stored not in group.results and stored.form in plan.read_by(group):
            yield group.result.name


def as_planned(planned: Planned) -> str:
    """The program with a statement for every value that a kernel stores."""
    program = planned.program
    names = {stored.name: form for form, stored in planned.plan.stored.items()}
    known = set(names.values())
    names |= {name: form for name, form in program.names if name not in names and form not in known}
    return str(replace(program, names=tuple(names.items())))


def statements(text: str) -> Iterator[str]:
    """The statements of a printed program: what computes, without what is declared."""
    for line in text.splitlines()[1:]:
        if line.strip().partition(" ")[0] not in DECLARED:
            yield line.strip()


DECLARED = frozenset(("param", "buffer", "draw", "require"))
"""How the lines of a program begin that compute nothing."""
