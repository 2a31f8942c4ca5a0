"""Remove from a kernel what no store reads: values, carried values, streams, buffers and sizes."""

from __future__ import annotations

from dataclasses import replace

from .kernel import Carry, Grid, Kernel, Operand, Statement, Store, Stream, defined, operands


def prune(kernel: Kernel) -> Kernel:
    """The same kernel without dead statements. Loads have no effect, so they go too; so do lanes of a stream
    that is gone."""
    needed = _needed(kernel)
    body = _kept(kernel.body, needed)
    used = needed | {str(bound) for axis in kernel.grid for bound in _bounds(axis)}
    buffers = _buffers(body)
    axes = {axis.name for axis in kernel.grid} | _streamed(body)
    return replace(
        kernel,
        body=body,
        lanes=tuple(lane for lane in kernel.lanes if lane in axes),
        sizes=tuple(size for size in kernel.sizes if size in used),
        buffers=tuple(buffer for buffer in kernel.buffers if buffer.name in buffers),
    )


def _bounds(axis: Grid) -> tuple[Operand, ...]:
    ends = (axis.ragged.step, axis.ragged.extent) if axis.ragged is not None else ()
    return (axis.low, axis.size, *ends)


def _streamed(body: tuple[Statement, ...]) -> set[str]:
    """The axes of all streams."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, Stream):
            found |= {axis.name for axis in statement.axes} | _streamed(statement.body)
    return found


def _needed(kernel: Kernel) -> set[str]:
    """The names that the stores depend on, to a fixed point: a carry needs its own next value."""
    reads: dict[str, list[Operand]] = {}
    roots: list[Operand] = []
    _collect(kernel.body, reads, roots)
    needed: set[str] = set()
    while roots:
        item = roots.pop()
        if isinstance(item, str) and item not in needed:
            needed.add(item)
            roots += reads.get(item, [])
            if "." in item:
                roots.append(item.rsplit(".", 1)[0])
    return needed


def _collect(body: tuple[Statement, ...], reads: dict[str, list[Operand]], roots: list[Operand]) -> None:
    for statement in body:
        match statement:
            case Store():
                roots += operands(statement)
            case Stream(axes=axes, carries=carries, body=inner, visible=visible):
                bounds: list[Operand] = [bound for axis in axes for bound in (axis.low, axis.stop)]
                for carry in carries:
                    reads[carry.name] = [carry.init, carry.next, visible, *bounds]
                for axis in axes:
                    reads[axis.name] = bounds
                if _has_store(inner):
                    roots += [*bounds, visible]
                _collect(inner, reads, roots)
            case _:
                for name in defined(statement):
                    reads[name] = list(operands(statement))


def _has_store(body: tuple[Statement, ...]) -> bool:
    return any(isinstance(s, Store) or (isinstance(s, Stream) and _has_store(s.body)) for s in body)


def _kept(body: tuple[Statement, ...], needed: set[str]) -> tuple[Statement, ...]:
    kept: list[Statement] = []
    for statement in body:
        match statement:
            case Stream(carries=carries, body=inner):
                live: tuple[Carry, ...] = tuple(carry for carry in carries if carry.name in needed)
                inside = _kept(inner, needed)
                if live or _has_store(inside):
                    kept.append(replace(statement, carries=live, body=inside))
            case Store():
                kept.append(statement)
            case _:
                if any(name in needed for name in defined(statement)):
                    kept.append(statement)
    return tuple(kept)


def _buffers(body: tuple[Statement, ...]) -> set[str]:
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, Stream):
            names |= _buffers(statement.body)
        else:
            buffer = getattr(statement, "buffer", None)
            if isinstance(buffer, str):
                names.add(buffer)
    return names
