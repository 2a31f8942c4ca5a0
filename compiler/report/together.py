"""What a report says of kernels that are the phases of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ...dsl.program import Axis
from ...dsl.shapes.size_forms import Extent, evaluate_size
from ..fusion.work import word_of
from ..kernels.phases import Phased
from ..pipeline import Planned
from ..schedules.phasing import Phasing, image_axes
from .cost import Machine, group_least
from .notes import Note, bytes_of

Sizes = Mapping[Axis, Extent]


@dataclass(slots=True)
class Together:
    """The groups of a program by the names of their results, in the order of the plan."""

    planned: Planned
    phasing: Phasing | None
    groups: dict[tuple[str, ...], Phased] = field(default_factory=dict[tuple[str, ...], Phased])

    def __post_init__(self) -> None:
        for names, unit in self.phasing.units if self.phasing is not None else ():
            if isinstance(unit, Phased):
                self.groups[names] = unit

    @property
    def fewer(self) -> int:
        """How many launches the groups save."""
        return sum(len(names) - 1 for names in self.groups)

    @property
    def words(self) -> str:
        """How many phases there are, behind the number of kernels."""
        counts = [len(group.phases) for group in self.groups.values()]
        if not counts:
            return ""
        if len(counts) == 1 and self.phasing is not None and len(self.phasing.units) == 1:
            return f" of {counts[0]} phases"
        return f" ({', '.join(f'one of {count} phases' for count in counts)})"

    def phase(self, name: str) -> str:
        """The number of a kernel's phase, before its title."""
        for names, group in self.groups.items():
            if name in names:
                part = group.order[names.index(name)]
                at = next(i for i, phase in enumerate(group.phases) if part in phase)
                return f"phase {at + 1}, "
        return ""

    def before(self, name: str, sizes: Sizes | None, machine: Machine | None) -> Iterator[str]:
        """What stands before the first kernel of a group."""
        for names, group in self.groups.items():
            if name == names[0]:
                images = ", ".join(word_of(axis) for axis in image_axes(group, self.planned.plan))
                yield (
                    f"{group.name}: {len(group.phases)} phases for the images along {images}: each reads what earlier "
                    "ones made of its own image only, so a thread takes image after image through all of them where "
                    f"that keeps all threads busy, and else there is a barrier after each{_fits(group, sizes, machine)}"
                )

    def apart(self, name: str) -> Iterator[str]:
        """Why a kernel is no phase of the one before it."""
        if self.phasing is not None and name in self.phasing.apart:
            yield self.phasing.apart[name]

    def total(self, notes: Sequence[Note], sizes: Sizes | None, machine: Machine | None) -> tuple[int, float]:
        """The bytes between memory and all kernels at least, and the least time: what phases find in a cache does
        not count again."""
        costs = {each.name: each for each in notes}
        moved = sum(each.cost.least.value or 0 for each in notes)
        time = sum(each.bound.seconds for each in notes if each.bound is not None)
        if sizes is None or machine is None:
            return moved, time
        for names, group in self.groups.items():
            once = group_least(group, self.planned.plan.stored, sizes, machine)
            bounds = [limit for name in names if (limit := costs[name].bound) is not None]
            if once is not None:
                moved += once - sum(costs[name].cost.least.value or 0 for name in names)
                work = sum(each.parts[roof] for each in bounds for roof in each.parts if roof != "memory")
                time += max(once / machine.bytes, work) - sum(each.seconds for each in bounds)
        return moved, time


def _fits(group: Phased, sizes: Sizes | None, machine: Machine | None) -> str:
    """Whether an image lies in a core's cache between phases."""
    if sizes is None or machine is None or not machine.cache:
        return ""
    *extents, count = (evaluate_size(form, sizes) for form in group.numbers)
    alone = group.image_by_image(prod(extents), count, machine.threads)
    held = "stays in" if count <= machine.cache else "does not fit in"
    return (
        f". Here it is {'image by image' if alone else 'phase by phase'}: what the phases share of an image, "
        f"{bytes_of(count)}, {held} a core's own cache of {bytes_of(machine.cache)}"
    )
