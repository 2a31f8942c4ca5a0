"""The way from a Program to kernels, as one ordered list. Nothing registers itself.

`plan_program` ends with the plan; its kernels can be written once the sizes that shape the code are
known (`write_kernels`). Each step names itself: a fault says after which step it happened, `dump` sees
the result of every step, and `verify` runs the checker of each step's output.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch.fx import GraphModule

from ..dsl.constructors.build import size
from ..dsl.errors import CompilerFault, PlaitError
from ..dsl.program import Axis, Form, Program
from .algorithms.chunks import in_parts, short_axes, short_costs
from .algorithms.linear import stream_linear_maps
from .algorithms.order import choices, ordered
from .algorithms.shared import share
from .algorithms.split import split_sums
from .fusion.attention_family import Attention
from .fusion.check_plan import check_plan
from .fusion.contraction import bases, fixed_axes, parameter_axes
from .fusion.fuse import Fusion
from .fusion.join import join
from .fusion.outlets import under_own_names
from .fusion.plan import Group, Plan, Stored
from .fusion.sum_family import StreamedSum
from .fusion.tokens import join_tokens
from .kernels.check_kernel import check_kernel
from .kernels.kernel import RealType
from .kernels.written import Written
from .meaning.to_fx import to_fx
from .rewrites.cuts import Cut, cuts
from .rewrites.marks import without_marks
from .rewrites.simplify import simplify
from .rewrites.total import Totality, count_by_sizes
from .schedules.loops import loops_kernel
from .schedules.schedule import Schedule
from .schedules.stream import stream_kernel
from .schedules.stream_sum import sum_kernel
from .schedules.tiles import tile_kernel
from .schedules.windows import window_kernel

Dump = Callable[[str, object], None]


@dataclass(slots=True)
class State:
    """What the steps hand on."""

    program: Program
    resident: bool
    outputs: bool
    orders: Sequence[int] = ()
    rewritten: tuple[str, ...] = ()
    cuts: tuple[Cut, ...] = ()
    few: frozenset[Axis] = frozenset()
    parts: frozenset[Form] = frozenset()
    graph: GraphModule | None = None
    plan: Plan | None = None
    matches: dict[Form, Attention | StreamedSum] = field(default_factory=dict[Form, Attention | StreamedSum])
    total: Totality | None = None


def _simplify(state: State) -> object:
    state.program = simplify(without_marks(state.program))
    return state.program


def _order(state: State) -> object:
    if state.orders:
        count = len(choices(state.program))
        state.few = frozenset(short_axes(state.program)) if any(state.orders[count:]) else frozenset()
        state.program, words = ordered(state.program, state.orders[:count])
        state.rewritten += words
    return state.program


def _share(state: State) -> object:
    state.program = share(state.program)
    return state.program


def _count(state: State) -> object:
    state.program = count_by_sizes(state.program)
    return state.program


def _split(state: State) -> object:
    state.program = split_sums(stream_linear_maps(state.program))
    return state.program


def _chunk(state: State) -> object:
    state.program, state.parts = in_parts(state.program, state.few)
    return state.program


def _cut(state: State) -> object:
    state.cuts = cuts(state.program)
    return state.cuts


def _name(state: State) -> object:
    state.program = under_own_names(state.program)
    return state.program


def _to_fx(state: State) -> object:
    state.graph = to_fx(state.program)
    return state.graph


def _fuse(state: State) -> object:
    assert state.graph is not None
    fusion = Fusion(state.program, state.graph, state.resident, state.outputs, state.parts)
    state.plan = fusion.plan()
    state.matches, state.total = fusion.matches, fusion.total
    return state.plan


def _tokens(state: State) -> object:
    assert state.plan is not None
    assert state.total is not None
    if state.resident and state.outputs:
        state.plan = join_tokens(state.plan, state.total)
    return state.plan


def _join(state: State) -> object:
    assert state.plan is not None
    state.plan = join(state.plan, state.matches, state.resident)
    return state.plan


def _check_graph(state: State) -> None:
    assert state.graph is not None
    state.graph.graph.lint()


def _check_fused(state: State) -> None:
    assert state.plan is not None
    check_plan(state.plan)


@dataclass(frozen=True, slots=True)
class Step:
    """One step and the checker of what it makes."""

    name: str
    run: Callable[[State], object]
    check: Callable[[State], None] | None = None


STEPS: tuple[Step, ...] = (
    Step("simplify", _simplify),
    Step("order", _order),
    Step("share", _share),
    Step("count", _count),
    Step("split", _split),
    Step("cut", _cut),
    Step("chunk", _chunk),
    Step("name", _name),
    Step("to_fx", _to_fx, _check_graph),
    Step("fuse", _fuse, _check_fused),
    Step("tokens", _tokens, _check_fused),
    Step("join", _join, _check_fused),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """A program (its batch axes explicit) with its plan. `shape_axes` are the axes whose sizes are
    compiled in: kernels are written anew for other sizes of these, and of these only."""

    program: Program
    graph: GraphModule
    plan: Plan
    matches: Mapping[Form, Attention | StreamedSum]
    resident: bool
    total: Totality
    rewritten: tuple[str, ...] = ()
    """What was made of the program before it was planned, in words."""
    cuts: tuple[Cut, ...] = ()
    parts: frozenset[Form] = frozenset()
    """The reductions of the parts of others."""

    @property
    def shape_axes(self) -> tuple[Axis, ...]:
        found = [
            axis for each in self.matches.values() for axis in dict.fromkeys((*each.channels, *each.outputs))
        ]
        if self.resident:
            stored = set(self.plan.stored)
            parameters = parameter_axes(self.program)
            for group in self.plan.groups:
                if group.family == "tiles":
                    for each in group.results:
                        found += fixed_axes(each.form, stored, parameters)
                        own = (axis for axis in each.axes if group.grid and axis not in group.grid)
                        found += [base for axis in own for base in bases(axis)]
        return tuple(dict.fromkeys(found))


def verifying() -> bool:
    """Whether PLAIT_VERIFY=1 asks for the checkers after every step, as all tests do."""
    return os.environ.get("PLAIT_VERIFY") == "1"


def plan_program(
    program: Program,
    *,
    resident: bool = True,
    outputs: bool = True,
    orders: Sequence[int] = (),
    dump: Dump | None = None,
    verify: bool = False,
) -> Planned:
    """Run the steps. `resident`: the machine's tiles keep axes of fixed size whole; `outputs`: they run
    the outputs of a contraction past them; `orders`: the answers to `order_costs`. Raises PlaitError for
    the user's mistakes, CompilerFault for ours."""
    state = State(program, resident, outputs, orders)
    for step in STEPS:
        try:
            made = step.run(state)
            if (verify or verifying()) and step.check is not None:
                step.check(state)
        except (PlaitError, CompilerFault):
            raise
        except Exception as problem:
            raise CompilerFault(step.name, f"{type(problem).__name__}: {problem}", str(program)) from problem
        if dump is not None:
            dump(step.name, made)
    assert state.graph is not None
    assert state.plan is not None
    assert state.total is not None
    return Planned(
        state.program,
        state.graph,
        state.plan,
        state.matches,
        resident,
        state.total,
        state.rewritten,
        state.cuts,
        state.parts,
    )


def order_costs(program: Program) -> tuple[tuple[Form, ...], ...]:
    """Of each sum of products that has several orders, what they cost, as forms of sizes: the least at the
    sizes of a call is its answer in `orders`. So is whether axes that reductions leave alone have few entries.
    The program's batch is explicit."""
    program = simplify(without_marks(program))
    short = short_costs(short_axes(program))
    return (*(each.costs for each in choices(program)), *((short,) if short else ()))


def write_kernels(
    planned: Planned,
    known: Mapping[Axis, int],
    real: RealType,
    schedule: Schedule,
    *,
    dump: Dump | None = None,
    verify: bool = False,
) -> dict[str, Written]:
    """The kernel of every group that has one, by the name of its result."""
    written: dict[str, Written] = {}
    for group in planned.plan.groups:
        if group.family == "reference":
            continue
        stored = planned.plan.stored
        if group.family == "tiles":  # a stream computes its scores from its keys also where they are stored
            stored = planned.plan.read_by(group) | {each.form: each for each in group.results}
        try:
            made = _apart(_write(group, planned, stored, known, real, schedule), written)
            if verify or verifying():
                check_kernel(made.kernel)
        except (PlaitError, CompilerFault):
            raise
        except Exception as problem:
            shown = str(planned.program)
            raise CompilerFault("schedule", f"{type(problem).__name__}: {problem}", shown) from problem
        written[group.result.name] = made
        if dump is not None:
            dump("schedule", made.kernel)
    return written


def _apart(made: Written, others: Mapping[str, Written]) -> Written:
    """The kernel under a name of its own: names that differ in what no identifier may hold become one."""
    taken = {each.kernel.name for each in others.values()}
    name, i = made.kernel.name, 1
    while name in taken:
        i += 1
        name = f"{made.kernel.name}_{i}"
    return made if name == made.kernel.name else replace(made, kernel=replace(made.kernel, name=name))


def _write(
    group: Group,
    planned: Planned,
    stored: Mapping[Form, Stored],
    known: Mapping[Axis, int],
    real: RealType,
    schedule: Schedule,
) -> Written:
    alone = len(planned.plan.groups) == 1
    name = planned.program.name if alone else f"{planned.program.name}_{group.result.name}"
    match planned.matches.get(group.result.form):
        case Attention() as found:
            return stream_kernel(name, group.result, found, stored, known, real, schedule.stream, group.also)
        case StreamedSum() as found:
            matches = {each.form: planned.matches[each.form] for each in group.also}
            also = {
                each: match for each in group.also if isinstance(match := matches[each.form], StreamedSum)
            }
            return sum_kernel(name, group.result, found, stored, known, real, schedule.stream, also)
        case None:
            pass
    if schedule.windows is not None and not group.also:
        window = window_kernel(name, group.result, stored, known, real, schedule.windows, planned.total)
        if window is not None:
            return window
    if schedule.tiles is not None:
        tiled = tile_kernel(
            name, group.result, stored, known, real, schedule.tiles, planned.total, group.also, group.grid
        )
        if tiled is not None:
            return tiled
    if group.also:
        raise CompilerFault(
            "schedule", f"`{group.result.name}` was joined and has no tiles", str(planned.program)
        )
    return loops_kernel(name, group.result, stored, known, real, schedule.loop_lanes)


def shape_forms(planned: Planned) -> tuple[Form, ...]:
    """The sizes that shape the code, as forms."""
    return tuple(size(axis) for axis in planned.shape_axes)
