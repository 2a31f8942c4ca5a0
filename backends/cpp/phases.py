"""The entry of kernels that run as the phases of one.

    extern "C" void NAME(void *const *buffers, const long *numbers, runner run, unsigned threads)

`buffers` are those of all kernels, one kernel after the other. `numbers` begin with the number of images along
each axis of the image, and the bytes of one that several phases touch; then come the sizes of all kernels, then
the strides of all buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from ...compiler.kernels.phases import BYTES_A_PRODUCT, Part, Phased
from .emit import mangle
from .scope import Place


def places(group: Phased) -> list[Place]:
    """Where the kernels of a group stand in its launch, one a part."""
    kernels = [part.kernel for part in group.parts]
    head = len(group.extents) + 1
    buffers = list(accumulate((len(each.buffers) for each in kernels), initial=0))
    sizes = list(accumulate((len(each.sizes) for each in kernels), initial=head))
    ranks = (sum(buffer.rank for buffer in each.buffers) for each in kernels)
    strides = list(accumulate(ranks, initial=sizes[-1]))
    return [Place(buffers[i], sizes[i], strides[i], part.image) for i, part in enumerate(group.parts)]


def entry_of_phases(group: Phased) -> str:
    """The functions of a group, behind those of its kernels."""
    name, axes = mangle(group.name), len(group.extents)
    images = " * ".join(f"numbers[{i}]" for i in range(axes))
    alone = f"image_by_image({images}, crew)"
    if group.lone_products:
        alone += f" && {group.lone_products * BYTES_A_PRODUCT}L <= numbers[{axes}]"
    lines = [
        f"namespace phases_of_{name} {{",
        *_by_image(group, images),
        *(line for i, phase in enumerate(group.phases) for line in _phase(i, phase)),
        "}",
        f'extern "C" void {name}(void *const *buffers, const long *numbers, runner run, unsigned threads) {{',
        f"  using namespace phases_of_{name};",
        "  const long crew = run && threads > 1 ? (long)threads : 1;",
        f"  if ({alone}) {{",
        "    job shared = {buffers, numbers, 0, crew, nullptr};",
        "    if (crew > 1) run(by_image, &shared, threads, 0); else by_image(&shared);",
        "    return;",
        "  }",
        *(_barrier(i, phase) for i, phase in enumerate(group.phases)),
        "}",
    ]
    return "\n".join([*lines, ""])


def _by_image(group: Phased, images: str) -> Iterator[str]:
    """A thread takes image after image through all phases."""
    yield "static void by_image(void *given) {"
    yield "  job *shared = (job *)given; const long *numbers = shared->numbers;"
    yield f"  const long images = {images};"
    yield "  for (long next; (next = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED)) < images;) {"
    yield f"    long rest = next, image[{len(group.extents)}];"
    for i in reversed(range(len(group.extents))):
        yield f"    image[{i}] = rest % numbers[{i}]; rest /= numbers[{i}];"
    for part in group.parts:
        yield f"    {{ job own = {{shared->buffers, numbers, 0, 1, image}}; {_work(part)}(&own); }}"
    yield "  }"
    yield "}"


def _phase(i: int, phase: Sequence[Part]) -> Iterator[str]:
    """One phase of all images: nothing in it waits."""
    yield f"static void phase_{i}(void *given) {{"
    yield "  job *own = (job *)given;"
    yield from (f"  {_work(part)}(own + {n});" for n, part in enumerate(phase))
    yield "}"


def _barrier(i: int, phase: Sequence[Part]) -> str:
    """Runs a phase; it is over when all threads are done with it."""
    jobs = ", ".join(["{buffers, numbers, 0, crew, nullptr}"] * len(phase))
    return (
        f"  {{ job own[] = {{{jobs}}}; if (crew > 1) run(phase_{i}, own, threads, 0); else phase_{i}(own); }}"
    )


def _work(part: Part) -> str:
    return f"of_{mangle(part.kernel.name)}::work"
