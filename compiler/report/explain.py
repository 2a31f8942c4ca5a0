"""The report of a plan: what each kernel computes, how, at what cost and bound, and what is not fused and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import fill

from ...dsl.program import Axis
from ...dsl.size_forms import Extent
from ..fusion.plan import Edge, Plan
from ..fusion.work import traffic
from ..kernels.written import Written
from ..pipeline import Planned
from ..schedules.phasing import Phasing
from .cost import Machine, kernel_cost, program_least, reference_cost
from .notes import Note, bytes_of, note, seconds
from .page import Page, page
from .together import Together


@dataclass(frozen=True, slots=True)
class Report:
    """What `explain` and `verify` give: `str()` is the text, `to_html()` the same as one page that needs
    nothing else, with what can be drawn."""

    text: str
    ok: bool = True
    failures: tuple[str, ...] = ()
    drawn: Page | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text

    def to_html(self) -> str:
        return page(self.text, self.drawn)

    def followed_by(self, others: Iterable[Report]) -> Report:
        """The reports one after another, drawn as the first."""
        texts = (each.text for each in others)
        return replace(self, text="\n".join([self.text, *texts]))


def explain(
    planned: Planned,
    written: Mapping[str, Written],
    sizes: Mapping[Axis, Extent] | None,
    *,
    machine: Machine | None = None,
    remarks: Sequence[str] = (),
    example: bool = False,
    phases: Phasing | None = None,
) -> Report:
    """The report. `sizes` are those of a call, for numbers beside the formulas; `machine` bounds the time;
    `remarks` are what is known of calls; `example` says that nobody has called yet and that the sizes
    compiled in are examples; `phases` are the kernels that are launched as one."""
    plan = planned.plan
    stored = plan.stored
    notes: list[Note] = []
    for group in plan.groups:
        made = written.get(group.result.name)
        cost = reference_cost(group, stored, sizes) if made is None else kernel_cost(made, stored, sizes)
        notes.append(note(group, stored, made, cost, sizes, machine))
    together = Together(planned, phases)
    lines = [_head(plan, notes, together)]
    if example:
        lines.append("  (not called yet: sizes that shape the code are examples)")
    outputs = {output.value for output in planned.program.outputs}
    least = None if sizes is None else program_least(written, stored, outputs, sizes)
    lines += _total(notes, least, *together.total(notes, sizes, machine))
    for each in notes:
        lines += [_wrapped(f"  {words}", INDENT) for words in together.before(each.name, sizes, machine)]
        lines.append(f"  {together.phase(each.name)}{each.title}")
        lines += [_noted(what, words) for what, words in each.lines]
        lines += [_noted("apart", words) for words in together.apart(each.name)]
    lines += [f"  rewritten: {each}" for each in planned.rewritten]
    lines += _edges(plan)
    lines += [f"  {remark}" for remark in remarks]
    return Report("\n".join(lines), drawn=Page(planned, tuple(notes), sizes))


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
    yield f"  together: {sum(each or 0 for each in flops):,.0f} FLOPs; {bytes_}{bound}"


def _edges(plan: Plan) -> Iterator[str]:
    fused = [edge for edge in plan.edges if edge.fused]
    if plan.edges:
        yield f"  fused: {len(fused)} of {len(plan.edges)} edges"
    yield from (f"  stored: {each}" for each in unfused(plan))


def unfused(plan: Plan) -> Iterator[str]:
    """Every edge that is not fused: who reads what, and why that is stored."""
    kept: dict[str, list[Edge]] = {}
    for edge in plan.edges:
        if not edge.fused:
            kept.setdefault(edge.producer, []).append(edge)
    for producer, edges in kept.items():
        readers = _listed(edge.consumer for edge in edges)
        size = traffic(edges[0].value)
        yield f"{producer} -> {readers}, because {edges[0].reason} ({size} bytes)"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
