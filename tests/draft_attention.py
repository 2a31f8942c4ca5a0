"""Attention in what surrounds it in networks: several heads, grouped keys, rotary positions, biases and masks
that are data, unions of a window with tokens that all see."""

from __future__ import annotations

from dataclasses import dataclass

from drafts import Draft, Term


@dataclass(frozen=True)
class Keys:
    """One domain of an attention: the axes that the softmax runs over, the scores, and the values read there."""

    over: tuple[str, ...]
    scores: str
    values: str
    where: str = ""


def attention(draft: Draft) -> Term:
    """Of h (and w) by heads m: a window or all tokens, perhaps joined by tokens of their own."""
    outer = draft.begin(()) if draft.chance(50) else (*draft.begin(()), draft.axis_of_signature("b", ()))
    rows = ("h", "w") if draft.chance(30) else ("h",)
    heads = ("m",) if draft.chance(50) else ()
    channels = draft.pick([2, 4, 1, 3, 8])
    for name in (*heads, *rows):
        draft.axis_of_signature(name, outer, (2, 1, 3, 5) if len(rows) > 1 else (2, 4, 1, 7, 9, 17, 33))
    draft.axis_of_signature("d", (), (channels,))
    draft.axis_of_signature("e", (), draft.pick([(2,), (1,), (5,), (8,)]))
    query = draft.input((*outer, *heads, *rows, "d"))
    group = grouped(draft, heads)
    key, value = (draft.input((*outer, *group, *rows, last)) for last in ("d", "e"))
    if channels % 2 == 0 and draft.chance(30):
        frequency = draft.param(("d",))
        query, key = (rotated(draft, each, rows[0], frequency) for each in (query, key))
    pieces = [tokens(draft, query, key, value, rows, heads, group)]
    if draft.chance(35):
        pieces.append(apart(draft, query, heads))
    return attended(draft, pieces, (*outer, *heads, *rows, "e"))


def grouped(draft: Draft, heads: tuple[str, ...]) -> tuple[str, ...]:
    """The axis of the heads of keys, where queries share them."""
    if not heads or not draft.chance(40):
        return heads
    draft.lines.append("require (size(m) + 1) // 2 <= size(g)")
    draft.sizes["g"] = (draft.sizes["m"] + 1) // 2
    draft.signature.append("g")
    return ("g",)


def rotated(draft: Draft, x: Term, row: str, frequency: Term) -> Term:
    """Rotary positions over pairs of neighbours."""
    turned = f"select(d % 2 == 0, -{x.name}[d + 1], {x.name}[d - 1])"
    angle = f"{row} * {frequency.name}"
    return draft.let(f"{x.name} * cos({angle}) + {turned} * sin({angle})", x.axes)


def tokens(
    draft: Draft, query: Term, key: Term, value: Term, rows: tuple[str, ...], heads: tuple[str, ...],
    group: tuple[str, ...],
) -> Keys:  # fmt: skip
    """Keys among the queries' own tokens: a window, or all of them."""
    reads = [] if group == heads else ["g: m // 2"]
    over: list[str] = []
    offsets: list[str] = []
    window = draft.chance(50)
    radius = draft.pick([1, 0, 2, 3])
    for row in rows:
        if window:
            own = draft.ranged(f"d{row}", str(radius), 2 * radius + 1, "near")
            reads.append(f"{row}: {row} + {own}")
            offsets.append(own)
        else:
            own = draft.like(row)
            reads.append(f"{row}: {own}")
            offsets.append(f"({own} - {row})")
        over.append(own)
    read = ", ".join(reads)
    scores = f"sum[d]({query.name} * {key.name}[{read}]) * size(d) ** -0.5"
    scores += bias(draft, heads, rows[0], over, offsets[0], window)
    far = " + ".join(f"{each} * {each}" for each in offsets)
    where = draft.pick(
        ["", f"{offsets[0]} <= 0", f"{far} < {radius * radius + 1}", f"{offsets[0]} % 2 == 0", "mask", "documents",
         "length"]
    )  # fmt: skip
    if where == "length":
        length = draft.fresh("x")
        known = [axis for axis in key.axes if axis in ("...", "b")]
        draft.inputs.append(f"{length}[{', '.join(draft.shuffled(known))}]: int")
        where = f"{over[0] if not window else f'{rows[0]} + {over[0]}'} < {length}"
    if where == "documents":
        known = [axis for axis in key.axes if axis in ("...", "b", *rows)]
        document = draft.fresh("x")
        draft.inputs.append(f"{document}[{', '.join(draft.shuffled(known))}]: int")
        where = f"{document}[{', '.join(each for each in reads if not each.startswith('g'))}] == {document}"
    if where == "mask":
        known = [axis for axis in key.axes if axis in ("...", "b", *rows)]
        mask = draft.fresh("x")
        draft.inputs.append(f"{mask}[{', '.join(draft.shuffled(known))}]: bool")
        where = f"{mask}[{', '.join(each for each in reads if not each.startswith('g'))}]"
    return Keys(tuple(over), scores, f"{value.name}[{read}]", where)


def bias(draft: Draft, heads: tuple[str, ...], row: str, over: list[str], offset: str, window: bool) -> str:
    """A slope of the distance, a table by offset, or nothing."""
    match draft.pick(["none", "slope", "table"]):
        case "none":
            return ""
        case "slope":
            return f" - {draft.param(heads).name} * abs({offset})"
        case _ if window:
            return f" + {draft.param((*heads, *over)).name}"
        case _:
            table = draft.ranged("r", f"2 * size({row}) - 1", 2 * draft.sizes[row] - 1)
            return f" + {draft.param((*heads, table)).name}[{table}: {offset} + size({row}) - 1]"


def apart(draft: Draft, query: Term, heads: tuple[str, ...]) -> Keys:
    """Tokens of their own that every query sees."""
    draft.axis_of_signature("t", (), (2, 1, 3, 9))
    shared = draft.some(heads, 0)
    key, value = (draft.input((*shared, "t", last)) for last in ("d", "e"))
    return Keys(("t",), f"sum[d]({query.name} * {key.name}) * 0.5", value.name)


def attended(draft: Draft, pieces: list[Keys], axes: tuple[str, ...]) -> Term:
    inner = [axis for axis in axes if axis != "e"]
    scores = [draft.let(each.scores, (*inner, *each.over)).name for each in pieces]
    domains = [", ".join(each.over) + (f" | {each.where}" if each.where else "") for each in pieces]
    if len(pieces) == 1:
        weights = [f"softmax[{domains[0]}]({scores[0]})"]
    else:
        top = draft.let(f"lse[{'; '.join(domains)}]({', '.join(scores)})", inner).name
        weights = [f"exp({each} - {top})" for each in scores]
    sums: list[str] = []
    for piece, weight, domain in zip(pieces, weights, domains, strict=True):
        summed = f"sum[{domain if len(pieces) > 1 else ', '.join(piece.over)}]({weight} * {piece.values})"
        sums.append(draft.let(f"{summed} otherwise 0", axes).name)
    return draft.let(" + ".join(sums), axes)
