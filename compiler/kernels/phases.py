"""Kernels that run as the phases of one, and the checker of such a group.

A *phase* is what runs between two barriers: one kernel, or several of which none reads what another one of
the phase stores. The kernels of a group have an *image* in common: axes of their grids that run over the same
ranges, and later phases read what earlier ones stored only at their own coordinates of these axes. So there are
two orders in which a group may run, which compute the same numbers tile by tile:

    image by image      a thread takes an image through all phases, while it lies in the thread's cache; nobody waits
    phase by phase      all tiles of a phase on all threads, then a barrier, then the next phase

Which one is chosen at the call. `check_phases` holds a group to that:

barrier     what a kernel reads, no kernel of its own phase stores
order       what a kernel reads and the group stores, an earlier phase stores
image       each kernel has the axes of the image in its grid, from 0 on, over the same sizes as the others; what the
            group stores is stored at them, each in a dimension of its own, and is read at the reader's own
            coordinates there
once        no two kernels store one tensor
"""

from __future__ import annotations

from dataclasses import dataclass

from ...dsl.errors import CompilerFault
from ...dsl.program import Const, Form
from .kernel import Grid, Kernel, Load, Operand
from .written import Tensor, Written

BYTES_A_PRODUCT = 32
"""What an image has to have for every vector of products that a kernel with images in its lanes does for one alone,
to be taken through all phases alone: then these take about as long as to read the image once from a far cache."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kernel of a group. `image` are axes of its grid, in the order that all parts have in common."""

    written: Written
    image: tuple[str, ...]

    @property
    def kernel(self) -> Kernel:
        return self.written.kernel

    def grid(self, axis: str) -> Grid:
        return next(each for each in self.kernel.grid if each.name == axis)

    def reach(self, axis: str) -> Form | Operand:
        """How many coordinates an axis of the image has: a form, or a number that is compiled in."""
        size = self.grid(axis).size
        return number_of(self.written, size)


@dataclass(frozen=True, slots=True)
class Phased:
    """Kernels as the phases of one, which has a name of its own. `lone_products` are the products, in vectors,
    that kernels with images in their lanes do for an image alone; `bytes` those of an image that several phases
    touch; `order` holds the parts as the plan has them."""

    name: str
    phases: tuple[tuple[Part, ...], ...]
    order: tuple[Part, ...]
    bytes: Form
    lone_products: int = 0

    def image_by_image(self, images: int, image_bytes: int, threads: int) -> bool:
        """Whether so many threads take image after image through all phases: they are busy for three quarters of
        the time at least, and what images in lanes cost alone is little beside an image. The entry that is printed
        decides by the same rule."""
        busy = images > 0 and -(-images // threads) * threads <= images + images // 3
        return busy and self.lone_products * BYTES_A_PRODUCT <= image_bytes

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in the order of their phases."""
        return tuple(part for phase in self.phases for part in phase)

    @property
    def numbers(self) -> tuple[Form, ...]:
        """What a launch is told before the numbers of the kernels: how many images there are, and the bytes of one."""
        return (*(each if isinstance(each, Form) else _constant(each) for each in self.extents), self.bytes)

    @property
    def extents(self) -> tuple[Form | Operand, ...]:
        """The number of images along each axis of the image."""
        first = self.parts[0]
        return tuple(first.reach(axis) for axis in first.image)

    def __str__(self) -> str:
        lines = [f"kernel {self.name} of {len(self.phases)} phases"]
        for i, phase in enumerate(self.phases):
            images = (f"{part.kernel.name} by {', '.join(part.image)}" for part in phase)
            lines.append(f"  phase {i + 1}: {'; '.join(images)}")
        return "\n".join([*lines, *(str(part.kernel) for part in self.parts)])


def kernels_of(unit: Kernel | Phased) -> tuple[Kernel, ...]:
    """The kernels of what is launched at once."""
    return (unit,) if isinstance(unit, Kernel) else tuple(part.kernel for part in unit.parts)


def _constant(number: Operand) -> Const:
    """An extent that is no form is a number."""
    assert not isinstance(number, str)
    return Const(number)


def number_of(written: Written, size: Operand) -> Form | Operand:
    """The form behind a run-time number of a kernel; a number as it is."""
    if size in written.kernel.sizes:
        return written.numbers[written.kernel.sizes.index(str(size))]
    return size


# --- the checker


def check_phases(group: Phased) -> None:
    """Raise CompilerFault with the group's text where it breaks a law."""

    def fail(problem: str) -> CompilerFault:
        return CompilerFault("check_phases", problem, str(group))

    stored: dict[Tensor, tuple[int, Part]] = {}
    for i, phase in enumerate(group.phases):
        for part in phase:
            problem = _wrong_image(part, group)
            if problem:
                raise fail(problem)
            for tensor in part.written.made:
                if tensor in stored:
                    raise fail(f"`{part.kernel.name}` stores what another kernel stores")
                stored[tensor] = (i, part)
    for i, phase in enumerate(group.phases):
        for part in phase:
            for tensor, load in part.written.loads:
                if tensor not in stored:
                    continue
                at, maker = stored[tensor]
                read = f"`{part.kernel.name}` reads `{load.buffer}`"
                if at == i:
                    raise fail(f"{read}, which is stored in its own phase: a barrier is missing")
                if at > i:
                    raise fail(f"{read}, which a later phase stores: the phases are out of order")
                if not _own_image(part, load, image_dims(maker, tensor)):
                    raise fail(f"{read}, which is stored image by image, at other images than its own")


def _wrong_image(part: Part, group: Phased) -> str:
    """What is wrong with the axes of a part's image, or ""."""
    name = part.kernel.name
    grid = {axis.name for axis in part.kernel.grid}
    if not part.image or len(set(part.image)) != len(part.image) or not set(part.image) <= grid:
        return f"`{name}` has no image: {part.image} are no axes of its grid"
    if any(part.grid(axis).low != 0 or part.grid(axis).ragged for axis in part.image):
        return f"the image of `{name}` does not begin at 0, or is ragged"
    if tuple(part.reach(axis) for axis in part.image) != group.extents:
        return f"`{name}` has other images than the first kernel of its group"
    if any(None in image_dims(part, tensor) for tensor in part.written.made):
        return f"`{name}` stores something that has no dimension for each axis of its image"
    return ""


def image_dims(part: Part, tensor: Tensor) -> tuple[int | None, ...]:
    """The dimension of what a part stores in which each axis of its image lies, None where there is none."""
    for made, store in part.written.stores:
        if made == tensor:
            found = [part.written.coordinates.get(item) for item in store.index]
            return tuple(found.index(axis) if axis in found else None for axis in part.image)
    return tuple(None for _ in part.image)


def _own_image(part: Part, load: Load, dims: tuple[int | None, ...]) -> bool:
    """Whether a load is at the coordinates of the part's own image in these dimensions."""
    return all(
        dim is not None and part.written.coordinates.get(load.index[dim]) == axis
        for dim, axis in zip(dims, part.image, strict=True)
    )
