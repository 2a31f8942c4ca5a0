"""Which kernels of a program run as the phases of one: neighbours that have their images in common.

A reduction over an image is needed whole before its first reader, so it ends a phase. What the phases hand on is
the image's own, so an image may pass all of them before the next one begins (`kernels/phases.py`). The axes of the
image are found in the kernels: an axis of the grid that later kernels read what is stored at, coordinate for
coordinate, down to the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ...dsl.constructors.build import apply, size
from ...dsl.program import Axis, Const, Form, Leaf
from ..fusion.plan import Plan, Stored
from ..kernels.kernel import Dot, Fold, Kernel, Operand, Stream, every
from ..kernels.phases import Part, Phased, number_of
from ..kernels.written import Tensor, Written

Node = tuple[int, str]
"""An axis of the grid of one of several kernels."""

Unit = Written | Phased
"""What is launched at once."""

WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int": 8, "bool": 1}


LAUNCHED_APART = (
    "a phase of what is before it, launched by itself: blocks of one launch do not wait for each other, and one "
    "block that took an image through all phases alone would leave the rest of the machine idle"
)
"""Why a GPU, to which images are too few and too large for a block each, has a launch a phase."""


@dataclass(frozen=True, slots=True)
class Phasing:
    """The units of a program in their order, by the names of their results; `apart` says of a kernel why it
    is no phase of the one before it."""

    units: tuple[tuple[tuple[str, ...], Unit | None], ...]
    apart: Mapping[str, str]


def unit_of(unit: Unit) -> Kernel | Phased:
    """What is built of a unit."""
    return unit if isinstance(unit, Phased) else unit.kernel


def phasing(plan: Plan, written: Mapping[str, Written], name: str, together: bool = True) -> Phasing:
    """The kernels of a plan, as many as fit in each unit where the machine runs phases `together`; reference
    operations (None) stand alone."""
    results = [group.result.name for group in plan.groups]
    units: list[tuple[tuple[str, ...], Unit | None]] = []
    apart: dict[str, str] = {}
    at = 0
    while at < len(results):
        run = _run(results[at:], written)
        near = next((i for i in range(1, len(run)) if _apart(run[:i], run[i])), len(run))
        most = next((n for n in range(near, 1, -1) if grouped(run[:n], "", plan.stored)), 1)
        names = tuple(results[at : at + most])
        if not together:
            units += [((name,), written.get(name)) for name in names]
            apart |= dict.fromkeys(names[1:], LAUNCHED_APART)
        elif most > 1:
            whole = most == len(results)
            found = grouped(run[:most], name if whole else f"{run[most - 1].kernel.name}_phases", plan.stored)
            assert found is not None
            units.append((names, found))
        else:
            units.append((names, written.get(names[0])))
        if together and most < len(run):
            apart[results[at + most]] = why_apart(run[most - 1], run[most])
        at += most
    return Phasing(tuple(units), apart)


def _run(results: Sequence[str], written: Mapping[str, Written]) -> list[Written]:
    """The kernels from the first result on, up to a reference operation."""
    run: list[Written] = []
    for name in results:
        if name not in written:
            break
        run.append(written[name])
    return run


def grouped(run: Sequence[Written], name: str, stored: Mapping[Form, Stored]) -> Phased | None:
    """Kernels as the phases of one, each of which has to do with those before it; None where they have no image in
    common."""
    images = _images(run)
    levels = _levels(run)
    if not images or max(levels) == 0:
        return None
    parts = [Part(each, tuple(image[i] for image in images)) for i, each in enumerate(run)]
    phases = tuple(
        tuple(part for part, level in zip(parts, levels, strict=True) if level == n)
        for n in range(max(levels) + 1)
    )
    wide = (part.kernel for part in parts if any(part.grid(axis).tile > 1 for axis in part.image))
    lone = sum(products(kernel) or 0 for kernel in wide)
    return Phased(name, phases, tuple(parts), _bytes(parts, levels, stored), lone)


def _levels(run: Sequence[Written]) -> list[int]:
    """The phase of each kernel: behind all that store what it reads."""
    levels: list[int] = []
    made = [each.made for each in run]
    for i, each in enumerate(run):
        reads = {tensor for tensor, _ in each.loads}
        levels.append(max((levels[j] + 1 for j in range(i) if made[j] & reads), default=0))
    return levels


def _bytes(parts: Sequence[Part], levels: Sequence[int], stored: Mapping[Form, Stored]) -> Form:
    """The bytes of an image that more than one phase reads or stores."""
    phases: dict[Tensor, set[int]] = {}
    counts: dict[Tensor, Form] = {}
    for part, level in zip(parts, levels, strict=True):
        for tensor, statement in (*part.written.loads, *part.written.stores):
            places = [part.written.coordinates.get(item) for item in statement.index]
            if set(part.image) <= set(places):
                phases.setdefault(tensor, set()).add(level)
                counts[tensor] = _size_of(tensor, part, statement.buffer, places, stored)
    total: Form = Const(0)
    for tensor, count in counts.items():
        total = apply("add", total, count) if len(phases[tensor]) > 1 else total
    return total


def _size_of(
    tensor: Tensor, part: Part, name: str, places: Sequence[str | None], stored: Mapping[Form, Stored]
) -> Form:
    """The bytes of one image of a tensor."""
    form, buffer = tensor[0], part.kernel.buffer(name)
    axes = form.over if isinstance(form, Leaf) and form not in stored else stored[form].axes
    count: Form = Const(WIDTHS[buffer.real if buffer.kind == "real" else buffer.kind])
    for axis, place in zip(axes, places, strict=True):
        count = count if place in part.image else apply("mul", count, size(axis))
    return count


def _apart(before: Sequence[Written], kernel: Written) -> bool:
    """Whether a kernel reads nothing that the ones before it store or read."""
    theirs = {tensor for each in before for tensor in each.made}
    theirs |= {tensor for each in before for tensor, load in each.loads if len(load.index) > 1}
    return not theirs & {tensor for tensor, _ in kernel.loads}


def why_apart(one: Written, other: Written) -> str:
    """Why a kernel is no phase of the one before it."""
    if _apart([one], other):
        return "it reads nothing that the kernel before it has at hand"
    if not _images([one, other], tiled=False):
        return "the kernel before it has no image of its own for it: what is read is made of all of them"
    if not _images([one, other]):
        return "tiles of several images are in the lanes, or their number is the same at every call"
    return "the kernels before it have no image in common with it"


# --- images


def _images(run: Sequence[Written], tiled: bool = True) -> list[tuple[str, ...]]:
    """The axes of the image: each as its name in every kernel. `tiled`: only such as fit the tiles."""
    classes, broken = _classes(run)
    found: list[tuple[str, ...]] = []
    for axis in run[-1].kernel.grid:
        same = classes[(len(run) - 1, axis.name)]
        members = sorted(same)
        if [i for i, _ in members] != list(range(len(run))) or same & broken:
            continue
        names = tuple(name for _, name in members)
        if (not tiled or _fits(run, names)) and names not in found:
            found.append(names)
    return found


def _fits(run: Sequence[Written], names: tuple[str, ...]) -> bool:
    """Whether the axes run over one range, whose size belongs to the call, one coordinate a tile: or, between the
    first and the last kernel, in the lanes of one whose work for a tile is known."""
    grids = [
        next(axis for axis in each.kernel.grid if axis.name == name)
        for each, name in zip(run, names, strict=True)
    ]
    reach = [number_of(each, axis.size) for each, axis in zip(run, grids, strict=True)]
    if any(axis.low != 0 or axis.ragged for axis in grids) or any(each != reach[0] for each in reach):
        return False
    if not isinstance(reach[0], Form) or grids[0].tile > 1 or grids[-1].tile > 1:
        return False
    wide = (each.kernel for each, axis in zip(run, grids, strict=True) if axis.tile > 1)
    return all(products(kernel) is not None for kernel in wide)


def _classes(run: Sequence[Written]) -> tuple[dict[Node, frozenset[Node]], set[Node]]:
    """Which axes of the grids stand for each other, and those at which something is stored that is read at
    other coordinates."""
    classes = {
        (i, axis.name): frozenset([(i, axis.name)]) for i, each in enumerate(run) for axis in each.kernel.grid
    }
    broken: set[Node] = set()

    def unite(one: Node, other: Node) -> None:
        both = classes[one] | classes[other]
        classes.update(dict.fromkeys(both, both))

    stored: dict[Tensor, tuple[Node | None, ...]] = {}
    given: dict[Tensor, tuple[Node | None, ...]] = {}
    for i, each in enumerate(run):
        flows = False
        for tensor, load in each.loads:
            own = _places(i, each, load.index)
            flows = flows or tensor in stored
            for there, here in zip(stored.get(tensor, ()), own, strict=False):
                if there is not None and here is not None:
                    unite(there, here)
                elif there is not None:
                    broken.add(there)
        for tensor, load in each.loads:
            own = _places(i, each, load.index)
            if tensor in given and not flows:  # beside the others, not behind them
                for there, here in zip(given[tensor], own, strict=True):
                    if there is not None and here is not None:
                        unite(there, here)
            elif tensor not in given:
                given[tensor] = own
        made = each.made
        for tensor, store in each.stores:
            if tensor in made:
                stored.setdefault(tensor, _places(i, each, store.index))
    return classes, broken


def _places(i: int, written: Written, index: Sequence[Operand]) -> tuple[Node | None, ...]:
    names = (written.coordinates.get(item) for item in index)
    return tuple(None if name is None else (i, name) for name in names)


# --- what an image costs where images lie in the lanes


def products(kernel: Kernel) -> int | None:
    """The products of a tile of a kernel and what it folds, lanes apart, where all its loops have sizes that are
    compiled in; None where one has not."""
    sizes = {axis.name: axis.size for axis in kernel.locals}
    total = 0
    for statement in every(kernel.body):
        match statement:
            case Stream(axes=axes):
                for axis in axes:
                    if not isinstance(axis.low, int) or not isinstance(axis.stop, int):
                        return None
                    sizes[axis.name] = axis.stop - axis.low
            case Dot(axes=axes, over=over) | Fold(axes=axes, over=over):
                inner = (*over, *(axis for axis in axes if axis not in kernel.lanes))
                total += prod(sizes.get(axis, 1) for axis in inner)
            case _:
                pass
    others = [axis for axis in kernel.grid if axis.name not in kernel.lanes]
    if any(not isinstance(axis.size, int) for axis in others):
        return None
    return total * prod(int(axis.size) for axis in others if isinstance(axis.size, int))


def image_axes(group: Phased, plan: Plan) -> tuple[Axis, ...]:
    """The axes of the program that are the image of a group."""
    part = group.parts[-1]
    tensor, store = part.written.stores[0]
    axes = plan.stored[tensor[0]].axes
    names = [part.written.coordinates.get(item) for item in store.index]
    return tuple(axes[names.index(axis)] for axis in part.image)
