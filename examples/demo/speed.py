"""Step 5: forward and training times of circular attention, beside what one would use in PyTorch today."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

import plait
from benchmarks.timing import compare
from examples.circular_attention import circular_attention

from . import peers, screen
from .agree import Attention, allowed, error

HEADS, HEIGHT, WIDTH, CHANNELS, RADIUS = 8, 56, 56, 32, 4
ROUNDS = 7
PATIENCE = 120
"""Seconds that one build of a peer may take."""


@dataclass(frozen=True, slots=True)
class Built:
    """A form of the operator ready to be timed, and the seconds that its first call took."""

    name: str
    run: Callable[[], object]
    seconds: float


class TooLong(Exception):
    """A build went over its time."""


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise TooLong from the block after so many seconds."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fixed(form: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Attention:
    """A form for this radius."""
    return lambda q, k, v: form(q, k, v, RADIUS)


def training(attention: Attention, inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    """One forward and one backward, from the queries as cotangent; gives the three gradients."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    return lambda: list(torch.autograd.grad(attention(*leaves), leaves, inputs[0]))


def forward(attention: Attention, inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    def run() -> list[Tensor]:
        with torch.no_grad():
            return [attention(*inputs)]

    return run


def build(name: str, run: Callable[[], list[Tensor]], wanted: list[Tensor]) -> Built | None:
    """The first call, timed and checked. None, and a line that says so, where it takes too long."""
    start = time.perf_counter()
    try:
        with within(PATIENCE):
            found = run()
    except Exception as problem:
        if time.perf_counter() - start < PATIENCE - 1:
            raise
        screen.say(f"  {name}: not built within {PATIENCE} s ({type(problem).__name__})")
        return None
    bound = allowed(torch.float32, RADIUS, CHANNELS)
    assert error(found, wanted) <= bound, f"{name} computes the same, to {bound:.1e}"
    return Built(name, run, time.perf_counter() - start)


def fastest(built: list[Built]) -> Built:
    """The one with the least time of two calls."""

    def seconds(each: Built) -> float:
        times: list[float] = []
        for _ in range(2):
            start = time.perf_counter()
            each.run()
            times.append(time.perf_counter() - start)
        return min(times)

    return min(built, key=seconds)


def candidates(inputs: list[Tensor], way: Callable[..., Callable[[], list[Tensor]]], wanted: list[Tensor],
               compiled: tuple[str, ...]) -> list[Built]:  # fmt: skip
    """plait, the fastest eager form, the fastest of the forms `compiled` by torch.compile."""

    def built(name: str, attention: Attention) -> list[Built]:
        each = build(name, way(attention, inputs), wanted)
        return [each] if each else []

    forms = {"mask": peers.masked, "unfold": peers.unfolded, "loop over taps": peers.looped}
    ours = built("plait", plait.compile(circular_attention.program(radius=RADIUS), backend="cpp"))
    eager = [each for name, form in forms.items() for each in built(f"eager PyTorch, {name}", fixed(form))]
    graphs = [
        each
        for name in compiled
        for each in built(f"torch.compile, {name}", torch.compile(fixed(forms[name])))
    ]
    return ours + [fastest(each) for each in (eager, graphs) if each]


def measure(title: str, built: list[Built]) -> dict[str, float]:
    """Interleaved medians as a table; each peer's time over ours by its name."""
    row = compare(title, {each.name: each.run for each in built}, rounds=ROUNDS, ours="plait")
    screen.table(
        [title, "median", "of plait's", "first call"],
        [
            [each.name, f"{row.milliseconds[each.name]:.1f} ms", f"{row.ratios.get(each.name, 1.0):.2g}x",
             f"{each.seconds:.1f} s"] for each in built
        ],
    )  # fmt: skip
    return dict(row.ratios)


def said(ratios: dict[str, float]) -> str:
    """The ratio to torch.compile in words."""
    found = [ratio for name, ratio in ratios.items() if name.startswith("torch.compile")]
    if not found:
        return "not compared with torch.compile, which took too long to build"
    ratio = found[0]
    return (
        f"{ratio:.1f} times as fast as torch.compile"
        if ratio >= 1
        else f"{1 / ratio:.1f} times slower than torch.compile"
    )


def run(out: Path) -> str:
    """Both tables."""
    torch.manual_seed(0)
    inputs = list(torch.randn(3, HEADS, HEIGHT, WIDTH, CHANNELS))
    wide = [x.double() for x in inputs]
    sizes = f"{HEADS} heads, {HEIGHT} x {WIDTH} tokens, {CHANNELS} channels, {len(peers.disc(RADIUS))} keys a query"
    screen.say(f"  {sizes}; float32, {torch.get_num_threads()} threads; building the peers takes a while")
    results = forward(fixed(peers.looped), wide)()
    built = candidates(inputs, forward, results, ("loop over taps", "unfold"))
    flexible = peers.flexible(torch.compile(flex_attention), peers.block_mask(HEIGHT, WIDTH, RADIUS))
    flex = build("FlexAttention (block mask for free)", forward(flexible, inputs), results)
    ahead = measure("forward", built + ([flex] if flex else []))
    faster = next(
        (each.name.split(", ")[1] for each in built if each.name.startswith("torch.compile")),
        "loop over taps",
    )
    slopes = training(fixed(peers.looped), wide)()
    both = measure("training", candidates(inputs, training, slopes, (faster,)))
    screen.say("  The first call of a compiled form builds it. FlexAttention has no backward on CPUs.")
    return f"forward it is {said(ahead)}, in training {said(both)}"
