"""Where values between kernels lie: in one tensor, each from the first kernel that names it to the last.

Where that tensor would be larger than a `SHARE` of what a call is given and gives, and than `LEAST`, the kernels run
part by part along the cuts of the program, and it has room for one part: values of every token and tap, of which a
softmax and its gradient are made, are never there for a whole batch. Parts depend on sizes alone, so that results do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

import torch
from torch import Tensor

from ..dsl.program import Axis
from .executable import Call, Cut, Executable, Slot
from .pages import fresh

LEAST = 1 << 20
"""Bytes between kernels that lie as they come: small calls are in a hurry."""

SHARE = 0.5
"""What the workspace may be of the bytes of inputs and results, where the program has cuts."""

ALIGNED = 64
"""Every value begins at a multiple of this many bytes."""

PASSES = 3
"""What it takes to add a part of a sum to the others: two tensors are read, one is written."""


@dataclass(frozen=True, slots=True)
class Life:
    """A value between kernels: its bytes, and the first and the last step that names it."""

    bytes: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        return self.first <= other.last and other.first <= self.last


def packed(lives: Mapping[str, Life]) -> tuple[dict[str, int], int]:
    """An offset for each value, so that no two that meet share a byte, and the bytes of all. The largest come
    first, each as low as it fits."""
    offsets: dict[str, int] = {}
    whole = 0
    for name, life in sorted(lives.items(), key=lambda pair: -pair[1].bytes):
        beside = ((offsets[each], lives[each].bytes) for each in offsets if lives[each].meets(life))
        at = 0
        for first, size in sorted(beside):
            if at + life.bytes <= first:
                break
            at = max(at, -(-(first + size) // ALIGNED) * ALIGNED)
        offsets[name] = at
        whole = max(whole, at + life.bytes)
    return offsets, -(-whole // ALIGNED) * ALIGNED


@dataclass(frozen=True, slots=True)
class Laid:
    """A value in the workspace: its slot, its shape and strides, and the entry of its kind where it begins."""

    slot: Slot
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a call: what lies in the workspace, of how many bytes, and the numbers of each kernel."""

    laid: tuple[Laid, ...]
    bytes: int
    numbers: tuple[tuple[int, ...], ...]


Divided = tuple[tuple[Cut, int, int], ...]
"""Cuts, each with the size of its axis and that of a part."""


@dataclass(slots=True)
class Workspace:
    """How one shape of call runs. Every step is a kernel."""

    executable: Executable
    sizes: Mapping[Axis, int]
    cuts: Divided = ()
    parts: dict[tuple[int, ...], Part] = field(default_factory=dict[tuple[int, ...], Part], repr=False)

    # --- parts

    def part(self, extents: tuple[int, ...]) -> Part:
        """The part that is so long along the cuts."""
        found = self.parts.get(extents)
        if found is None:
            axes = (cut.axis for cut, _, _ in self.cuts)
            values = self.executable.measure({**self.sizes, **dict(zip(axes, extents, strict=True))})
            shapes = {slot.name: tuple(values[form] for form in slot.shape) for slot in self.executable.slots}
            calls = [step for step in self.executable.steps if isinstance(step, Call)]
            numbers = tuple(tuple(values[form] for form in call.numbers) for call in calls)
            offsets, size = packed(self.lives(shapes))
            laid = (self._laid(slot, shapes[slot.name], offsets) for slot in self.executable.slots)
            found = Part(tuple(each for each in laid if each is not None), size, numbers)
            self.parts[extents] = found
        return found

    @property
    def bytes(self) -> int:
        """Those of the largest part."""
        return self.part(tuple(step for _, _, step in self.cuts)).bytes

    def lives(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Life]:
        """How long each value lives that lies in the workspace, in a part of these shapes. A part of a sum is
        added to the others as soon as it is there."""
        apart, sums = self.apart(), self.sums()
        found: dict[str, Life] = {}
        for slot in self.executable.slots:
            if slot.name in sums or slot.name not in apart:
                named = [i for i, step in enumerate(self.executable.steps) if slot.name in tensors_of(step)]
                size = prod(shapes[slot.name]) * slot.dtype.itemsize
                found[slot.name] = Life(size, named[0], named[-1])
        return found

    @staticmethod
    def _laid(slot: Slot, shape: tuple[int, ...], offsets: Mapping[str, int]) -> Laid | None:
        if slot.name not in offsets:
            return None
        strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        return Laid(slot, shape, strides, offsets[slot.name] // slot.dtype.itemsize)

    def sums(self) -> frozenset[str]:
        """The slots that add up over the parts."""
        return frozenset(name for cut, _, _ in self.cuts for name in cut.sums)

    def apart(self) -> frozenset[str]:
        """The slots with tensors of their own: what is given, what is a result, and what is the same for
        every part."""
        found = {slot.name for slot in self.executable.slots if slot.given}
        return frozenset(found | {result.slot for result in self.executable.outputs} | self.same())

    def same(self) -> frozenset[str]:
        """The slots that are the same for every part."""
        return frozenset.intersection(*(cut.same for cut, _, _ in self.cuts)) if self.cuts else frozenset()

    # --- running

    def run(self, held: dict[str, Tensor], shapes: Mapping[str, Sequence[int]], device: torch.device) -> None:
        """Run the kernels on the given tensors; the results, of these shapes, are put beside them."""
        apart, sums = self.apart(), self.sums()
        alike = self.same().union(slot.name for slot in self.executable.slots if slot.given)
        for slot in self.executable.slots:
            if slot.name in apart and not slot.given:
                held[slot.name] = fresh(shapes[slot.name], slot.dtype, device)
        room = fresh([self.bytes], torch.uint8, device)
        typed = {slot.dtype: room.view(slot.dtype) for slot in self.executable.slots if slot.name not in held}
        typed |= {slot.dtype: room.view(slot.dtype) for slot in self.executable.slots if slot.name in sums}
        for starts in product(*(range(0, size, step) for _, size, step in self.cuts)):
            extents = tuple(
                min(step, size - at) for (_, size, step), at in zip(self.cuts, starts, strict=True)
            )
            self._run(held, typed, starts, extents, alike)

    def _run(
        self,
        held: Mapping[str, Tensor],
        typed: Mapping[torch.dtype, Tensor],
        starts: tuple[int, ...],
        extents: tuple[int, ...],
        alike: frozenset[str],
    ) -> None:
        """One part. `alike` is what does not differ between parts."""
        part, here = self.part(extents), dict(held)
        for (cut, _, _), at, extent in zip(self.cuts, starts, extents, strict=True):
            for name, dim in cut.dims.items():
                if name in here:
                    here[name] = here[name].narrow(dim, at, extent)
        further = {
            name for (cut, _, _), at in zip(self.cuts, starts, strict=True) for name in cut.sums if at > 0
        }
        sums = {name: here[name] for name in further}
        for each in part.laid:
            if each.slot.name not in here or each.slot.name in further:
                tensor = typed[each.slot.dtype]
                here[each.slot.name] = tensor.as_strided(each.shape, each.strides, each.first)
        once = not any(starts)
        for step, numbers in zip(self.executable.steps, part.numbers, strict=True):
            assert isinstance(step, Call)
            if once or not alike.issuperset(step.tensors):
                step.built([here[name] for name in step.tensors], numbers)
                for name in further.intersection(step.tensors):
                    sums[name].add_(here[name])
                    further.discard(name)

    # --- choosing

    def fits(self, cut: Cut) -> bool:
        """Whether every sum along one cut differs between the parts of the others: it would be added twice."""
        return not any(cut.same & other.sums or cut.sums & other.same for other, _, _ in self.cuts)

    def divided(self, cut: Cut, bound: int) -> Workspace:
        """With one more cut, in the fewest parts of at most `bound` bytes each; without it where it saves
        nothing, or where adding up its sums would move more than the whole workspace has."""
        size, whole = self.sizes[cut.axis], self.bytes
        step = min(size, max(1, size * bound // whole))
        while True:
            made = replace(self, cuts=(*self.cuts, (cut, size, step)), parts={})
            if made.bytes <= bound or step == 1:
                break
            step -= -(-step // 8)
        count = -(-size // step)
        made = replace(made, cuts=(*self.cuts, (cut, size, -(-size // count))), parts={})
        slots = (slot for slot in self.executable.slots if slot.name in cut.sums)
        values = self.executable.measure(self.sizes)
        sums = sum(prod(values[form] for form in slot.shape) * slot.dtype.itemsize for slot in slots)
        return made if made.bytes < whole and sums * PASSES * (count - 1) <= whole else self


def tensors_of(step: object) -> tuple[str, ...]:
    """The slots that a kernel takes."""
    return step.tensors if isinstance(step, Call) else ()


def workspace(
    executable: Executable, sizes: Mapping[Axis, int], shapes: Mapping[str, Sequence[int]]
) -> Workspace | None:
    """How a call of these sizes runs; None where there is little between its kernels, or a reference operation."""
    results = {result.slot for result in executable.outputs}
    outside = inside = 0
    for slot in executable.slots:
        size = prod(shapes[slot.name]) * slot.dtype.itemsize
        if slot.given or slot.name in results:
            outside += size
        else:
            inside += size
    if inside < LEAST or not executable.portable:
        return None
    bound, made = max(LEAST, int(outside * SHARE)), Workspace(executable, sizes)
    for cut in executable.cuts:
        if made.bytes > bound and sizes[cut.axis] > 1 and made.fits(cut):
            made = made.divided(cut, bound)
    return made
