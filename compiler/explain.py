"""The report of a plan as text: what each kernel does, what it costs, and what is not fused and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..dsl.program import Axis, Form
from ..dsl.size_forms import Extent
from .kernel import Kernel, Stream, StreamAxis
from .pipeline import Planned
from .plan import Edge, Group, Plan, Stored
from .work import Term, formula_of, least_bytes, operations, traffic, word_of


@dataclass(frozen=True, slots=True)
class Report:
    """What `explain` and `verify` give: `str()` is the text."""

    text: str
    ok: bool = True
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


def explain(
    planned: Planned,
    kernels: Mapping[str, Kernel],
    sizes: Mapping[Axis, Extent] | None,
    open_checks: Iterable[str] = (),
    example: bool = False,
) -> Report:
    """The report. `sizes` are those of a call, for numbers beside the formulas; `example` says that
    nobody has called yet and that the sizes compiled in are examples."""
    plan = planned.plan
    stored = {group.result.form: group.result for group in plan.groups}
    count = len(kernels)
    rest = len(plan.groups) - count
    head = f"{plan.program.name}: {count} kernel{'' if count == 1 else 's'}"
    lines = [head + (f", {rest} reference operation{'' if rest == 1 else 's'}" if rest else "")]
    if example:
        lines.append("  (not called yet: sizes that shape the code are examples)")
    for group in plan.groups:
        lines += _group(group, planned, stored, kernels.get(group.result.name), sizes)
    lines += _edges(plan)
    lines += [f"  checked once per sizes: {text}" for text in open_checks]
    return Report("\n".join(lines))


def _group(
    group: Group,
    planned: Planned,
    stored: Mapping[Form, Stored],
    kernel: Kernel | None,
    sizes: Mapping[Axis, Extent] | None,
) -> list[str]:
    axes = ", ".join(word_of(axis) for axis in group.result.axes)
    lines = [f"  {group.result.name}[{axes}]: {_family(group)}"]
    if kernel is not None:
        lines.append(f"    schedule   {_schedule(kernel)}")
    work, moved = operations(group, stored), least_bytes(group, stored, 4)
    lines.append(f"    operations {_sum(work, sizes)}")
    lines.append(f"    bytes      {_sum(moved, sizes)} at least (float32)")
    if sizes is not None:
        flops, traffic = (sum(term.at(sizes) for term in terms) for terms in (work, moved))
        lines.append(f"    intensity  {flops / max(traffic, 1):.1f} operations a byte")
    if group.family == "tiles" and group.reason:
        lines.append(f"    not streamed: {group.reason}")
    return lines


def _family(group: Group) -> str:
    match group.family:
        case "stream":
            return "streaming softmax: queries in the lanes, keys pass by, no scores in memory"
        case "sum":
            return "streaming sum: queries in the lanes, keys pass by, every entry computed on the way"
        case "tiles":
            return "tiles of the result, reductions inside"
        case "reference":
            return f"reference operation, because {group.reason}"


def _schedule(kernel: Kernel) -> str:
    tiles = [f"{axis.name} by {axis.tile}" for axis in kernel.grid if axis.tile > 1]
    streams = [axis for statement in kernel.body if isinstance(statement, Stream) for axis in statement.axes]
    parts = [f"tiles of {', '.join(tiles)}" if tiles else "one element at a time"]
    if streams:
        parts.append("loops over " + ", ".join(_loop(axis) for axis in streams))
    if kernel.locals:
        resident = ", ".join(f"{local.name} = {local.size}" for local in kernel.locals)
        parts.append(f"resident and compiled in: {resident}")
    return "; ".join(parts)


def _loop(axis: StreamAxis) -> str:
    return axis.name if axis.step == 1 else f"{axis.name} in runs of {axis.step}"


def _sum(terms: Iterable[Term], sizes: Mapping[Axis, Extent] | None) -> str:
    found = list(terms)
    text = formula_of(found)
    return text if sizes is None else f"{text} = {sum(term.at(sizes) for term in found):,}"


def _edges(plan: Plan) -> list[str]:
    fused = [edge for edge in plan.edges if edge.fused]
    kept = {edge.producer: edge for edge in plan.edges if not edge.fused}
    lines = [f"  fused: {len(fused)} of {len(plan.edges)} edges"] if plan.edges else []
    return lines + [f"  stored: {_stored(edge)}" for edge in kept.values()]


def _stored(edge: Edge) -> str:
    return f"{edge.producer}, because {edge.reason} ({traffic(edge.value)} bytes)"
