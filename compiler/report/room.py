"""What a report says of the memory between kernels: the room that values take there, and calls that run in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .notes import bytes_of


@dataclass(frozen=True, slots=True)
class Divided:
    """An axis that a call goes along in parts of `step` of its `size`, and the results that are added up over them."""

    axis: str
    size: int
    step: int
    sums: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.step)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a call: `given` and returned, of all `values` between its kernels, and of the one tensor that these lie
    in (`shared`, None where each has a tensor of its own), which holds one part at a time. `whole`: what one tensor
    would take if there were no parts. `undivided` says why there are none, where `most` would ask for them."""

    given: int
    values: tuple[str, ...]
    apart: int
    whole: int = 0
    shared: int | None = None
    most: int = 0
    parts: tuple[Divided, ...] = ()
    undivided: str = ""

    def words(self) -> Iterator[str]:
        """Lines of the report."""
        if not self.values:
            return
        first, *others = self.values
        many = f"{len(self.values)} values" if others else f"`{first}`"
        line = f"between kernels: {many}, {bytes_of(self.apart)}"
        if self.shared is None:
            yield line + self._reason()
            return
        if others:
            line += f"; they share one room of {bytes_of(self.whole)}, each from its first kernel to its last"
        if not self.parts:
            yield line + self._reason()
            return
        yield f"{line}; that is more than {bytes_of(self.most)}, half of inputs and results or 1 MiB"
        along = " and ".join(f"along {each.axis}, {each.step} of {each.size} at once" for each in self.parts)
        count = 1
        for each in self.parts:
            count *= each.count
        sums = [name for each in self.parts for name in each.sums]
        added = f"; torch adds up {', '.join(f'`{name}`' for name in sums)} over them" if sums else ""
        yield (
            f"in parts: all kernels run {count} times, {along}, so that there is room for one part, "
            f"{bytes_of(self.shared)}{added}; parts hang on sizes alone, so bits do not depend on threads"
        )

    def _reason(self) -> str:
        return f" (not in parts: {self.undivided})" if self.undivided else ""
