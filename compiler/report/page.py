"""A report as one HTML page that needs nothing else: the notes as tables, the graph of kernels, the graph of what each
of them computes, and the receptive fields of the results, drawn as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ...dsl.program import Axis
from ...dsl.shapes.size_forms import Extent
from ..pipeline import Planned
from .cost import Machine
from .drawing import colour, kernels_drawn, values_drawn
from .fields import fields
from .notes import Note, bytes_of, seconds
from .together import Together

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
pre, table { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { white-space: pre-wrap; background: #fafafa; border: 1px solid #e3e3e3; padding: .6rem .8rem; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
h3 { font: bold 13px ui-monospace, monospace; margin: 1.2rem 0 .3rem; }
section + section { border-top: 2px solid #222; margin-top: 3rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; vertical-align: top; text-align: left; }
th { color: #666; font-weight: normal; border-bottom: 1px solid #ccc; }
.notes td:first-child { color: #666; white-space: nowrap; } td.number, th.number { text-align: right; }
.badge { border-radius: 3px; padding: 0 .45rem; } .bar { background: #8fb3d0; height: .8em; display: inline-block; }
details { margin: .5rem 0 1rem; } summary { cursor: pointer; font-weight: 600; } .notes { margin: .4rem 0 0 1rem; }
.wide { overflow-x: auto; border: 1px solid #e3e3e3; } svg { display: block; }
svg text { font: 12px ui-monospace, "DejaVu Sans Mono", monospace; fill: #222; } svg text.below { font-size: 10px; }
svg.field text { font-size: 11px; fill: #666; } svg title { pointer-events: none; }
figure { display: inline-block; margin: 0 2rem 1rem 0; vertical-align: top; }
figcaption { max-width: 18rem; font-size: 13px; } li { margin: .15rem 0; } .bad { color: #c0392b; }
"""
MOST_OPEN = 4
"""Kernels whose notes are open when the page is; those of more are opened one by one."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a report is drawn from: its first line, its lines `before` and `after` the kernels, the program with a
    statement for every stored value; `sizes` are those of a call, where there was one."""

    title: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    text: str
    planned: Planned
    notes: tuple[Note, ...]
    sizes: Mapping[Axis, Extent] | None
    together: Together
    machine: Machine | None


def page(text: str, drawn: Sequence[Page]) -> str:
    """The page of a report."""
    title = escape(text.split("\n", 1)[0])
    parts = ["<!doctype html>", f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>']
    parts.append(f"<style>{STYLE}</style></head><body>")
    if not drawn:
        parts += [f"<h1>{title}</h1>", f"<pre>{escape(text)}</pre>"]
    for number, each in enumerate(drawn):
        parts += [
            f'<section id="program{number}">',
            *_program(each, drawn if number == 0 else ()),
            "</section>",
        ]
    return "\n".join([*parts, "</body></html>", ""])


def _program(drawn: Page, every: Sequence[Page]) -> Iterator[str]:
    yield f"<h1>{escape(drawn.title)}</h1>"
    if len(every) > 1:
        links = (
            f'<a href="#program{i}">{escape(each.planned.program.name)}</a>' for i, each in enumerate(every)
        )
        yield f"<p>On this page: {', '.join(links)}.</p>"
    yield from _listed(drawn.before)
    yield "<h2>Kernels</h2>"
    if len(drawn.notes) > 1:
        yield from _overview(drawn)
    yield from _notes(drawn)
    if len(drawn.notes) > 1:
        yield "<h2>What kernels read of each other</h2>"
        yield "<p>A box is a kernel, in its colour, with the least time that it takes; rounded boxes are given. "
        yield "A red line is a value that goes through memory; rest on it for its size and the reason.</p>"
        graph = kernels_drawn(drawn.planned, drawn.notes, drawn.together, drawn.sizes)
        yield f'<div class="wide">{graph}</div>'
    yield "<h2>What is fused</h2>"
    yield "<p>Every value of the program, in the colour of the kernel that computes it: in several colours where "
    yield "several kernels compute it again. What is stored has a bold outline, and red lines to its readers.</p>"
    yield f'<div class="wide">{values_drawn(drawn.planned)}</div>'
    yield from _listed(drawn.after)
    yield "<h2>What one entry of a result reads</h2>"
    yield from fields(drawn.planned.program, drawn.sizes)
    yield "<h2>The program as planned</h2>"
    yield f"<pre>{escape(drawn.text)}</pre>"


def _listed(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield "<ul>"
        for line in lines:
            look = ' class="bad"' if line.startswith("not fused") else ""
            yield f"<li{look}>{escape(line)}</li>"
        yield "</ul>"


def _badge(number: int, words: str) -> str:
    return f'<span class="badge" style="background:{colour(number)}">{escape(words)}</span>'


def _overview(drawn: Page) -> Iterator[str]:
    """A row a kernel: what it costs, and its part of the time."""
    total = sum(each.bound.seconds for each in drawn.notes if each.bound is not None)
    heads = "<th>kernel</th><th class='number'>FLOPs</th><th class='number'>bytes at least</th>"
    bounds = "<th class='number'>bound</th><th>by</th><th>part of all</th>" if total else ""
    yield f"<table><tr>{heads}{bounds}</tr>"
    for number, each in enumerate(drawn.notes):
        done, least = each.cost.worked, each.cost.least.value
        cells = [
            f"<td>{_badge(number, f'{number + 1}  {each.made}')}</td>",
            f'<td class="number">{"" if done is None else f"{done:,.0f}"}</td>',
            f'<td class="number">{"" if least is None else bytes_of(least)}</td>',
        ]
        if total and each.bound is not None:
            part = each.bound.seconds / total
            bar = f'<span class="bar" style="width:{part * 10:.2f}rem"></span> {part:.0%}'
            cells.append(f'<td class="number">{seconds(each.bound.seconds)}</td><td>{each.bound.roof}</td>')
            cells.append(f"<td>{bar}</td>")
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table>"


def _notes(drawn: Page) -> Iterator[str]:
    opened = ' open="open"' if len(drawn.notes) <= MOST_OPEN else ""
    for number, each in enumerate(drawn.notes):
        for words in drawn.together.before(each.name, drawn.sizes, drawn.machine):
            yield f"<p>{escape(words)}</p>"
        lines = [*each.lines, *(("apart", words) for words in drawn.together.apart(each.name))]
        rows = "".join(f"<tr><td>{escape(what)}</td><td>{escape(words)}</td></tr>" for what, words in lines)
        phase = drawn.together.phase(each.name)
        head = f"{_badge(number, f'{number + 1}  {phase}{each.made}')} {escape(each.family)}"
        yield f'<details{opened}><summary>{head}</summary><table class="notes">{rows}</table></details>'
