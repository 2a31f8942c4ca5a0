"""The Kernel language: its text, and a checker that refuses every way of breaking a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from agreement import nearly
from kernel_meaning import run
from kernel_sketches import depthwise, streamed_outputs, total
from plait.compiler.kernels.check_kernel import check_kernel
from plait.compiler.kernels.kernel import (
    Buffer,
    Carry,
    Dot,
    Fold,
    Grid,
    Kernel,
    Let,
    Load,
    Local,
    Statement,
    Store,
    Stream,
    StreamAxis,
    Take,
)
from plait.compiler.kernels.kernel_builder import Builder
from plait.compiler.kernels.prune import prune
from plait.dsl.errors import CompilerFault

ROWS = ("t",)


def attention() -> Kernel:
    """One-dimensional causal attention, by hand."""
    body: tuple[Statement, ...] = (
        Load("K", "k", ("s", "d"), "s.valid", ("s", "d"), "real"),
        Load("V", "v", ("s", "d"), "s.valid", ("s", "d"), "real"),
        Let("earlier", "le", ("s", "t"), ("s", "t"), "bool"),
        Let("seen", "and", ("earlier", "s.valid"), ("s", "t"), "bool"),
        Dot("score", "K", "Q", ("d",), None, None, ("s", "t")),
        Let("shown", "select", ("seen", "score", float("-inf")), ("s", "t"), "real"),
        Fold("best", "max", "shown", ("s",), True, ROWS, "real"),
        Let("high", "maximum", ("top", "best"), ROWS, "real"),
        Let("gap", "sub", ("top", "high"), ROWS, "real"),
        Let("shrink", "exp", ("gap",), ROWS, "real"),
        Let("below", "sub", ("shown", "high"), ("s", "t"), "real"),
        Let("weight", "exp", ("below",), ("s", "t"), "real"),
        Fold("mass", "sum", "weight", ("s",), True, ROWS, "real"),
        Let("kept", "mul", ("norm", "shrink"), ROWS, "real"),
        Let("more", "add", ("kept", "mass"), ROWS, "real"),
        Dot("grown", "V", "weight", ("s",), "acc", "shrink", ("t", "d"), "earlier", ("V",)),
    )
    stream = Stream(
        (StreamAxis("s", 0, "T", 32),),
        (
            Carry("top", float("-inf"), "high", ROWS, "real"),
            Carry("norm", 0.0, "more", ROWS, "real"),
            Carry("acc", 0.0, "grown", ("t", "d"), "real"),
        ),
        body,
        "seen",
    )
    buffers = tuple(Buffer(name, 2, "real", "float32", "out" if name == "o" else "in") for name in "qkvo")
    return Kernel(
        "causal",
        "float32",
        ("T",),
        buffers,
        (Grid("t", 0, "T", 64),),
        (Local("d", 0, 8),),
        ROWS,
        (
            Load("Q", "q", ("t", "d"), "t.valid", ("t", "d"), "real"),
            stream,
            Let("out", "div", ("acc", "norm"), ("t", "d"), "real"),
            Store("o", ("t", "d"), "out", "t.valid"),
        ),
    )


def test_a_kernel_is_text() -> None:
    lines = str(attention()).splitlines()
    assert lines[0] == "kernel causal float32, lanes (t)"
    assert "  stream s in 0 .. T by 32 visible seen" in lines
    assert "    grown[t, d] = dot[s](V, weight where earlier, exposed V) + acc * shrink" in lines
    assert "  o[t, d] = out where t.valid" in lines


def test_a_right_kernel_passes() -> None:
    check_kernel(attention())


def at(kernel: Kernel, place: int, statement: Statement) -> Kernel:
    body = list(kernel.body)
    body[place] = statement
    return replace(kernel, body=tuple(body))


def inside(kernel: Kernel, name: str, change: Callable[[Statement], Statement]) -> Kernel:
    """The kernel with the statement of the stream that gives `name` changed."""
    stream = kernel.body[1]
    assert isinstance(stream, Stream)
    body = tuple(change(s) if getattr(s, "name", "") == name else s for s in stream.body)
    return at(kernel, 1, replace(stream, body=body))


def carried(kernel: Kernel, carry: Carry) -> Kernel:
    stream = kernel.body[1]
    assert isinstance(stream, Stream)
    return at(kernel, 1, replace(stream, carries=(carry, *stream.carries[1:])))


K = attention()
OUT = K.body[2]
MUTANTS: dict[str, tuple[Kernel, str]] = {
    "store twice": (replace(K, body=(*K.body, K.body[3])), "stored more than once"),
    "store without mask": (at(K, 3, Store("o", ("t", "d"), "out", True)), "mask"),
    "store in a stream that skips": (
        inside(K, "K", lambda _: Store("o", ("t", "d"), "Q", "t.valid")),
        "skips chunks",
    ),
    "store at a constant": (at(K, 3, Store("o", (0, "d"), "out", "t.valid")), "is a number"),
    "store at one coordinate twice": (at(K, 3, Store("o", ("t", "t"), "out", "t.valid")), "no distinct"),
    "no store": (replace(K, body=K.body[:3]), "are stored as"),
    "too few indices": (inside(K, "K", lambda s: replace(s, index=("s",))), "1 indices"),
    "real index": (inside(K, "K", lambda s: replace(s, index=("s", "Q"))), "no integer"),
    "unknown name": (inside(K, "gap", lambda s: replace(s, args=("top", "nothing"))), "before it is given"),
    "wrong axes": (inside(K, "shown", lambda s: replace(s, axes=("s",))), "and its operands"),
    "wrong kind": (inside(K, "seen", lambda s: replace(s, kind="real")), "gives bool"),
    "fold over a lacking axis": (inside(K, "best", lambda s: replace(s, over=("d",))), "lacks"),
    "scale without init": (inside(K, "score", lambda s: replace(s, scale=2.0)), "lacks"),
    "a mask and no exposed side": (inside(K, "grown", lambda s: replace(s, exposed=())), "without a side"),
    "an exposed side and no mask": (inside(K, "grown", lambda s: replace(s, mask=True)), "without a side"),
    "a side that is none": (inside(K, "grown", lambda s: replace(s, exposed=("K",))), "without a side"),
    "a mask that is no truth": (inside(K, "grown", lambda s: replace(s, mask="gap")), "truth value"),
    "a mask of other axes": (
        inside(K, "score", lambda s: replace(s, left="Q", mask="s.valid", exposed=("Q",))),
        "truth value",
    ),
    "carry of another kind": (carried(K, Carry("top", float("-inf"), "seen", ROWS, "real")), "kind or axes"),
    "carry without its axes": (carried(K, Carry("top", float("-inf"), "high", (), "real")), "kind or axes"),
    "a name given twice": (inside(K, "gap", lambda s: replace(s, name="high")), "given twice"),
    "inner name read outside": (
        at(K, 2, Let("out", "div", ("acc", "mass"), ("t", "d"), "real")),
        "before it is given",
    ),
    "lanes that are no grid": (replace(K, lanes=("d",)), "no axes of the grid or of one stream"),
    "grid axis not stored": (replace(K, grid=(*K.grid, Grid("b", 0, "T", 1))), "once for every"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_kernel_is_refused(name: str) -> None:
    kernel, words = MUTANTS[name]
    with pytest.raises(CompilerFault, match=words):
        check_kernel(kernel)


def test_what_a_dot_leaves_out_reaches_nothing() -> None:
    """NaN in the value of the last key: only the queries that see it have it."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(35, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    v[33, 1] = float("nan")
    (o,) = run(attention(), [q, k, v, torch.zeros(35, 8)], [35])
    assert o.isnan().nonzero().tolist() == [[33, 1], [34, 1]]


def test_a_dot_leaves_out_zeros_only() -> None:
    tensors = [torch.ones(3, 8, dtype=torch.float64) for _ in range(4)]
    seeing_all = inside(K, "shown", lambda s: replace(s, args=(True, "score", 0.0)))
    with pytest.raises(AssertionError, match="that are not 0"):
        run(seeing_all, tensors, [3])


def test_prune_keeps_a_living_kernel() -> None:
    assert prune(attention()) == attention()


def test_prune_removes_what_nothing_stores() -> None:
    """A value, the load behind it, its buffer and its size go; what a carry needs of itself stays."""
    kernel = attention()
    extra = (
        Load("bias", "b", ("t",), "t.valid", ROWS, "real"),
        Let("idle", "mul", ("bias", "n"), ROWS, "real"),
    )
    grown = replace(
        kernel,
        sizes=("T", "n"),
        buffers=(*kernel.buffers, Buffer("b", 1, "real", "float32", "in")),
        body=(*extra, *kernel.body),
    )
    assert prune(grown) == kernel


# --- stores in streams, residents read by coordinates, lanes of a stream

OUTPUTS = streamed_outputs(5, 3, 7, 4, 3).kernel
WINDOW = depthwise((1, 5, 6), 3, 1, (4, 4)).kernel
TOTAL = total((3, 5), 4).kernel


def with_stream(kernel: Kernel, change: Callable[[Stream], Stream]) -> Kernel:
    return replace(kernel, body=tuple(change(s) if isinstance(s, Stream) else s for s in kernel.body))


def with_last(stream: Stream, **changes: object) -> Stream:
    last = replace(stream.body[-1], **changes)
    return replace(stream, body=(*stream.body[:-1], last))


def with_take(kernel: Kernel, **changes: object) -> Kernel:
    return replace(
        kernel, body=tuple(replace(s, **changes) if isinstance(s, Take) else s for s in kernel.body)
    )


NEW_MUTANTS: dict[str, tuple[Kernel, str]] = {
    "stored once a chunk": (
        with_stream(OUTPUTS, lambda s: with_last(s, index=("t", "c"))),
        "stored once for every",
    ),
    "stored beyond the stream's end": (
        with_stream(OUTPUTS, lambda s: with_last(s, mask="t.valid")),
        "mask of `y`",
    ),
    "a value wider than its index": (
        with_stream(OUTPUTS, lambda s: with_last(s, value="z")),
        "more axes than its index",
    ),
    "a stream that skips": (
        with_stream(OUTPUTS, lambda s: replace(s, visible="there")),
        "skips chunks",
    ),
    "lanes of two streams": (replace(TOTAL, lanes=("j", "nothing")), "of one stream"),
    "too few coordinates": (with_take(WINDOW, index=("utap", "vtap")), "not resident"),
    "a source in lanes": (with_take(WINDOW, source="utap", index=("p",), kind="int"), "not resident"),
    "a real coordinate": (with_take(WINDOW, index=("c", "K", "vtap")), "at no integers"),
    "a take of another kind": (with_take(WINDOW, kind="int"), "changes the kind"),
}


@pytest.mark.parametrize("name", NEW_MUTANTS)
def test_what_streams_and_takes_must_keep(name: str) -> None:
    kernel, words = NEW_MUTANTS[name]
    with pytest.raises(CompilerFault, match=words):
        check_kernel(kernel)


@pytest.mark.parametrize("kernel", [OUTPUTS, WINDOW, TOTAL], ids=lambda kernel: kernel.name)
def test_they_are_well_formed_and_alive(kernel: Kernel) -> None:
    check_kernel(kernel)
    assert prune(kernel) == kernel


def test_a_take_is_text() -> None:
    assert "  X_at[b, c, h, p, w_, q] = take X[c, utap, vtap]" in str(WINDOW).splitlines()


def test_outputs_streamed_mean_a_product() -> None:
    case = streamed_outputs(5, 3, 7, 4, 3)
    x, g, weight, bias, _ = (tensor.double() for tensor in case.tensors)
    (found,) = run(case.kernel, case.tensors, case.sizes)
    nearly(found, (x * g) @ weight.T + bias)


def test_a_halo_tile_means_a_convolution() -> None:
    case = depthwise((2, 5, 6), 3, 1, (4, 4))
    x, weight, _ = (tensor.double() for tensor in case.tensors)
    y = torch.nn.functional.conv2d(x, weight[:, None], padding=1, groups=3)
    (found,) = run(case.kernel, case.tensors, case.sizes)
    nearly(found, y - y.mean(1, keepdim=True))


def test_lanes_of_a_stream_mean_a_total() -> None:
    case = total((3, 5), 4)
    (found,) = run(case.kernel, case.tensors, case.sizes)
    nearly(found, case.tensors[0].double().sum(), case.tensors[0].numel())


def test_what_a_stream_does_not_change_stands_before_it() -> None:
    builder = Builder("float32")
    t, s = builder.axis("t"), builder.axis("s")
    x = builder.buffer("x", 1, "real", "in")
    acc = builder.carry("acc", (t,), "real")
    builder.open((s,))
    outer = builder.let("exp", builder.load(x, (t,), f"{t}.valid", "real"), kind="real")
    inner = builder.load(x, (s,), f"{s}.valid", "real")
    more = builder.let("add", acc, builder.let("mul", outer, inner, kind="real"), kind="real")
    builder.close((StreamAxis(s, 0, 4, 1),), (Carry(acc, 0.0, more, (t,), "real"),), True)
    after = builder.let("add", acc, 1.0, kind="real")
    (block,) = builder.blocks
    *before, stream, last = block.statements
    assert [type(each) for each in before] == [Load, Let]
    assert isinstance(stream, Stream)
    assert [type(each) for each in stream.body] == [Load, Let, Let]
    assert isinstance(last, Let)
    assert last.name == after
