"""Reports: whole texts of three programs, their pages, and what one entry of a result reads."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
import torch

import plait
from noted import clear, contmix
from plait import Program, parse
from plait.backends.assemble import Assembler
from plait.backends.precision import uniform
from plait.compiler.gradient.derive import gradient
from plait.compiler.kernels.kernel import Stream
from plait.compiler.report.cost import Machine, tallies, totals
from plait.compiler.report.explain import Report, explain
from plait.compiler.report.layout import laid_out
from plait.compiler.report.receptive import receptive_fields, small_sizes
from plait.compiler.report.seen import seen
from plait.compiler.report.trips import Counter, Nest
from plait.compiler.schedules.target import AVX2
from plait.dsl.constructors.build import size
from plait.dsl.mistakes import InvalidSize
from plait.dsl.program import BATCH, Axis
from plait.dsl.shapes.size_forms import evaluate_size
from plait.dsl.shapes.sizes import bind_sizes, expand_batch
from plait.stdlib.papers.convnext import convnext_block
from tree import ROOT

MACHINE = Machine("a machine of the test", products=100e9, bytes=25e9, functions=4e9)
REPORTS = ROOT / "tests" / "reports"


def report(program: Program, **shapes: tuple[int, ...]) -> Report:
    """The report of a program on a CPU with AVX2, whatever runs the test."""
    bound = bind_sizes(program, shapes)
    batch = bound.pop(BATCH, ())
    assert isinstance(batch, tuple)
    sizes = {axis: extent for axis, extent in bound.items() if isinstance(extent, int)}
    sizes |= {Axis(f"..{i}"): extent for i, extent in enumerate(batch)}
    expanded = expand_batch(program, len(batch))
    made = Assembler(expanded, "cpp", uniform(expanded, torch.float32), target=AVX2)
    return explain(made.planned, made.written(sizes), sizes, machine=MACHINE)


def convnext_report() -> Report:
    return report(convnext_block.program(c=96), x=(2, 96, 56, 56))


def clear_report() -> Report:
    image, words = (2, 64, 64, 128), (2, 512, 128)
    return report(clear.program(), qi=image, ki=image, vi=image, qt=words, kt=words, vt=words)


def contmix_report() -> Report:
    program = contmix.program(g=8, d=16, e=16)
    return report(program, q=(2, 8, 16, 28, 28), k=(2, 8, 16, 7, 7), v=(2, 256, 28, 28))


PAPERS = {"convnext": convnext_report, "clear": clear_report, "contmix": contmix_report}


@pytest.mark.parametrize("name", PAPERS)
def test_a_report_reads_like_an_experts_notes(name: str, accept: bool) -> None:
    path = REPORTS / f"{name}.txt"
    found = str(PAPERS[name]()) + "\n"
    if accept:
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


def test_the_numbers_of_the_convnext_block_are_those_of_its_sheet() -> None:
    """A place: 49 taps and two maps between c and 4c; a multiply-add is two FLOPs. The rest is small."""
    found = re.search(r"FLOPs .*? = ([\d,]+)", str(convnext_report()))
    assert found is not None
    c, places = 96, 2 * 56 * 56
    least = 2 * places * c * (49 + 2 * 4 * c)
    assert least < int(found[1].replace(",", "")) < 1.02 * least


LINEAR = "mixer linear(x[t, c]) -> y[t, o]:\n  param w[o, c]\n  param b[o]\n  "


def words(made: Report) -> str:
    """Its text on one line."""
    return " ".join(str(made).split())


def test_why_no_library_is_called_is_said() -> None:
    bare = report(parse(f"{LINEAR}y = sum[c](w * x)\n").program(c=64, o=32), x=(100, 64))
    assert "library    a bare product, kept here" in str(bare)
    after = report(parse(f"{LINEAR}y = maximum(sum[c](w * x) + b, 0)\n").program(c=64, o=32), x=(100, 64))
    assert f"{100 * 32 * 8 / 1e3:.1f} kB more" in " ".join(str(after).split()), (
        "the product, written and read once more"
    )
    before = report(parse(f"{LINEAR}y = sum[c](w * exp(x))\n").program(c=64, o=32), x=(100, 64))
    assert f"{100 * 64 * 8 / 1e3:.1f} kB more" in " ".join(str(before).split()), (
        "the exponentials, written and read once more"
    )


# --- pages


def drawn(made: Report) -> ElementTree.Element:
    page = made.to_html()
    assert "<script" not in page and "http-equiv" not in page
    assert set(re.findall(r"https?://[^\"' )]+", page)) <= {"http://www.w3.org/2000/svg"}, (
        "it needs nothing else"
    )
    return ElementTree.fromstring(page.split("\n", 1)[1].replace('<meta charset="utf-8">', ""))


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", PAPERS)
def test_a_page_has_notes_graphs_and_fields(name: str) -> None:
    made = PAPERS[name]()
    page = drawn(made)
    text = "".join("".join(page.itertext()).split())
    (sheet,) = made.drawn
    for words in (sheet.title, *sheet.before, *sheet.after, *(w for n in sheet.notes for _, w in n.lines)):
        assert "".join(words.split()) in text
        assert "".join(words.split()) in "".join(str(made).split())
    pictures = list(page.iter(f"{SVG}svg"))
    graphs = [each for each in pictures if each.attrib["class"] == "graph"]
    assert len(graphs) == (1 if ": 1 kernel" in str(made) else 2)
    for graph in graphs:
        titles = [each.text for each in graph.iter(f"{SVG}title")]
        assert any(str(each).startswith("stored: ") for each in titles) == ("  stored: " in str(made))


def test_the_fields_of_all_results_are_drawn() -> None:
    """A text token reads all text and all of the image; an image token its disc."""
    page = drawn(clear_report())
    heads = ["".join(each.itertext()).split("[")[0] for each in page.iter("h3")]
    assert heads == ["image", "text"]
    captions = [" ".join("".join(each.itertext()).split()) for each in page.iter("figcaption")]
    assert "ki: all of batch0; 15 of 33 along h; 15 of 33 along w; all of d" in captions
    assert "qt: all of batch0; 1 of 33 along t; all of d" in captions


def boxes_of(graph: ElementTree.Element) -> list[tuple[float, ...]]:
    """Left, top, width and height of every node."""
    return [
        tuple(float(each.attrib[key]) for key in ("x", "y", "width", "height"))
        for each in graph.iter(f"{SVG}rect")
        if each.get("class") == "node"
    ]


@pytest.mark.parametrize("name", ["clear", "contmix"])
def test_nodes_of_graphs_do_not_overlap(name: str) -> None:
    for graph in (
        each for each in drawn(PAPERS[name]()).iter(f"{SVG}svg") if each.attrib["class"] == "graph"
    ):
        _, _, width, height = map(float, graph.attrib["viewBox"].split())
        boxes = boxes_of(graph)
        assert len(boxes) >= 7
        for i, (x, y, w, h) in enumerate(boxes):
            assert 0 <= x <= width - w + 0.1 and 0 <= y <= height - h + 0.1
            for u, v, wide, tall in boxes[:i]:
                apart = x >= u + wide or u >= x + w or y >= v + tall or v >= y + h
                assert apart
        for label, box in zip(graph.iter(f"{SVG}text"), boxes, strict=False):
            assert len(label.text or "") * 7.2 <= max(each[2] for each in boxes), box


def test_rows_of_a_graph_follow_its_edges() -> None:
    edges = [("a", "c"), ("b", "c"), ("c", "d"), ("a", "d")]
    layout = laid_out(dict.fromkeys("abcd", 20.0), edges)
    assert all(layout.rows[one] < layout.rows[other] for one, other in edges)
    assert [len(layout.routes[edge]) for edge in edges] == [2, 2, 2, 3], "a place in every row that it passes"


def test_lines_cross_only_where_they_must() -> None:
    edges = [("a", "z"), ("b", "y"), ("c", "x")]
    layout = laid_out(dict.fromkeys("abcxyz", 20.0), edges)
    for (one, other), (two, another) in itertools.combinations(edges, 2):
        before = layout.across[one] < layout.across[two]
        assert before == (layout.across[other] < layout.across[another])


def test_a_report_of_a_check_is_a_page_too() -> None:
    assert "<pre>1 &lt; 2</pre>" in Report("1 < 2").to_html()


# --- what one entry reads


def fields(program: Program, sizes: dict[str, int]) -> dict[str, torch.Tensor]:
    known = {Axis(name): count for name, count in sizes.items()}
    return {each.name: each.read for each in receptive_fields(program, program.outputs[0], known)}


def test_a_disc_is_read_as_a_disc() -> None:
    text = """
mixer disc(q[h, w, d], k[h, w, d], v[h, w, d]) -> o[h, w, d]:
  near dh, dw: 3
  p = softmax[dh, dw | dh*dh + dw*dw < 9](sum[d](q * k[h+dh, w+dw]))
  o = sum[dh, dw](p * v[h+dh, w+dw])
"""
    found = fields(parse(text).program(), {"h": 11, "w": 9, "d": 2})
    wanted = torch.tensor([[(y - 5) ** 2 + (x - 4) ** 2 < 9 for x in range(9)] for y in range(11)])
    assert torch.equal(found["k"].any(2), wanted)
    assert torch.equal(found["v"][:, :, 1], wanted)
    assert not found["v"][:, :, 0].any(), "another channel of the values"
    assert found["q"].any(2).nonzero().tolist() == [[5, 4]]


FIELDS = {
    "a stride": ("mixer f(x[h]) -> y[i]:\n  axis i: size(h) // 2\n  y = x[h: 2*i]\n", [4]),
    "a flip": ("mixer f(x[h]) -> y[h]:\n  y = x[h: size(h) - 1 - h]\n", [4]),
    "an end": ("mixer f(x[h]) -> y[h]:\n  y = x[h+4] otherwise x\n", [4, 8]),
    "a causal sum": ("mixer f(x[h]) -> y[h]:\n  like s: h\n  y = sum[s](when(s <= h, x[h: s]))\n", [0, 1, 2, 3, 4]),
    "clamped": ("mixer f(x[h]) -> y[h]:\n  axis k: 3\n  y = sum[k](x[h: minimum(h - 1, 6) + k])\n", [3, 4, 5]),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_what_the_middle_reads(name: str) -> None:
    text, wanted = FIELDS[name]
    assert fields(parse(text).program(), {"h": 9})["x"].nonzero().flatten().tolist() == wanted


def test_what_data_decides_is_all_that_it_could_be() -> None:
    program = parse("mixer f(x[v, c], ids[t]: index v) -> y[t, c]:\n  y = x[v: ids]\n").program()
    found = fields(program, {"v": 4, "c": 3, "t": 5})
    assert found["x"].any(1).all() and found["x"].any(0).tolist() == [False, True, False]
    assert found["ids"].nonzero().tolist() == [[2]]


def test_sizes_of_a_drawing_are_small() -> None:
    program = expand_batch(convnext_block.program(c=96), 0)
    sizes = small_sizes(program, {Axis(n): s for n, s in {"b": 64, "c": 96, "h": 512, "w": 512}.items()})
    assert max(sizes.values()) <= 33
    assert sizes[Axis("h")] > 14, "the window fits"
    assert max(math.prod(evaluate_size(size(a), sizes) for a in f.axes) for f in program.forms) <= 2e6


# --- masks


def test_half_of_a_causal_mask_is_seen() -> None:
    text = """
mixer causal(q[t, d], k[t, d], v[t, d]) -> o[t, d]:
  like s: t
  p = softmax[s | s <= t](sum[d](q * k[t: s]))
  o = sum[s](p * v[t: s])
"""
    program = parse(text).program()
    made = Assembler(program, "cpp", uniform(program, torch.float32), target=AVX2)
    sizes = {Axis("t"): 4096, Axis("d"): 4}
    (written,) = made.written(sizes).values()
    nest = Nest(written.kernel)
    numbers = {
        name: evaluate_size(form, sizes)
        for name, form in zip(written.kernel.sizes, written.numbers, strict=True)
    }
    (stream,) = (each for each in written.kernel.body if isinstance(each, Stream))
    counter = Counter(nest, numbers)
    found = seen(stream, counter)
    assert found is not None
    assert found.seen <= found.done <= 1
    _, every = tallies(written.kernel)
    passed = totals(every, counter)["products"] / (2 * 4 * 4096**2)
    assert found.seen * passed == pytest.approx(0.5, abs=0.01), "by the bounds of the stream, or by its mask"
    assert found.done * passed <= 0.52, "what is hidden whole is skipped"


# --- the face


def test_a_mixer_explains_itself_without_being_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_MACHINE", "products=1e11 bytes=2e10 functions=3e9 name=mine")
    made = plait.mixer("x[..., t, c] -> y[..., t, c]")(lambda x: x * 2.0 + 1.0)
    before = str(made.explain())
    assert "(not called yet" in before and " = " not in before.split("FLOPs", 1)[1].split("\n")[0]
    after = str(made.explain({"x": (3, 5, 7)}))
    assert "FLOPs      2*batch0*c*t = 210" in after
    assert "on mine" in after
    with pytest.raises(InvalidSize, match="`t`"):
        made.explain({})


def test_triton_kernels_are_bounded_by_a_gpu() -> None:
    made = plait.mixer("x[t] -> y[t]")(lambda x: x * 2.0)
    assert re.search(r"bound .* on \w+", str(made.explain({"x": (1000,)}, backend="triton")))


def test_a_gradient_that_reads_only_some_inputs_is_reported() -> None:
    text = "mixer scaled(x[t], s) -> y[t]:\n  y = x * s\n"
    made = plait.compile(parse(text), backend="cpp", on_unfused="quiet")
    made(torch.rand(5), torch.tensor(2.0, requires_grad=True)).sum().backward()
    assert "\nscaled_gradient: " in str(made.explain())
    alone = plait.compile(gradient(parse(text).program(), ["s"]))
    assert "  grad.s[]: " in str(alone.explain({"x": (5,), "s": (), "cot.y": (5,)}))
