"""The examples: in reading order, short, each with what one learns and an asserted number; and the demo's parts.

test_docs.py runs every example. `make demo` as a whole is a slow test here; its parts are tested one by one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import plait
from agreement import agree_gradients, nearly
from plait.dsl.program import Program
from tree import ROOT

sys.path.append(str(ROOT))

from examples.demo import __main__ as demo
from examples.demo import agree, digits, peers, photograph, pictures, show, speed

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LISTED = re.findall(r"^\d+\. \[(\w+\.py)\]", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
LINES = 80


def test_every_example_has_its_place_in_the_reading_order() -> None:
    assert sorted(LISTED) == [path.name for path in EXAMPLES]
    assert LISTED[0] == "circular_attention.py"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_shaped_like_the_others(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LINES
    tree = ast.parse(text)
    assert "What you learn: " in (ast.get_docstring(tree) or "")
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert any(isinstance(node, ast.Assert) for node in ast.walk(main)), "main() asserts its number"
    assert text.rstrip().endswith('if __name__ == "__main__":\n    main()')


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.plait")), ids=lambda path: path.stem)
def test_a_text_reads_back(path: Path) -> None:
    mixer = plait.load(path)
    for each in (mixer, *mixer.siblings.values()):
        assert plait.parse(str(each.program())).program() == each.program()


def test_both_spellings_of_circular_attention_are_one_program() -> None:
    from examples.circular_attention import circular_attention

    text = plait.load(ROOT / "examples" / "circular_attention.plait")
    for radius in (1, 2, 8):
        assert text.program(radius=radius) == circular_attention.program(radius=radius)


# --- the demo


@pytest.mark.parametrize("form", [peers.masked, peers.unfolded, peers.looped])
def test_the_peers_compute_circular_attention(form: Callable[..., torch.Tensor]) -> None:
    from examples.circular_attention import circular_attention

    q, k, v = torch.randn(3, 2, 7, 5, 4, dtype=torch.float64)
    wanted = plait.compile(circular_attention.program(radius=3), backend="reference")(q, k, v)
    nearly(form(q, k, v, 3), wanted)


def test_the_disc_is_what_is_nearer_than_its_radius() -> None:
    assert peers.disc(1) == [(0, 0)]
    assert len(peers.disc(2)) == 9
    assert len(peers.disc(8)) == 193


def test_the_demo_shows_both_spellings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show.run(tmp_path)
    printed = capsys.readouterr().out
    for each in ("def circular_attention(", "mixer circular_attention(", "1 kernel"):
        assert each in printed


def test_the_demo_holds_errors_to_what_rounding_allows() -> None:
    row = agree.case((1, 5, 3, 4), 2, torch.float64)
    assert max(map(float, row[1:4])) <= float(row[4]) < torch.finfo(torch.float32).eps
    assert agree.error([torch.ones(3)], [torch.tensor([1.0, 1.0, 2.0])]) == 0.5


def test_the_demo_takes_noise_away_by_attention(tmp_path: Path) -> None:
    torch.manual_seed(0)
    truth = photograph.photograph()[..., 200:328, 200:328]
    noisy = truth + photograph.NOISE * torch.randn_like(truth)
    network = photograph.Denoiser()
    with torch.no_grad():
        clean = network(noisy)
    assert photograph.decibels(clean, truth) > photograph.decibels(noisy, truth) + 3
    assert photograph.look(network, noisy, tmp_path) > 500
    assert (tmp_path / "receptive_field.png").read_bytes().startswith(b"\x89PNG")


def test_the_demos_pictures_say_what_they_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(pictures, "write", lambda figure, path: figures.append(figure))
    pixels, inside = torch.rand(3, 6, 8), torch.rand(6, 8) > 0.5
    pictures.side_by_side(tmp_path / "a.png", [("before", pixels), ("after", pixels)])
    pictures.field(tmp_path / "b.png", pixels, pixels[0], inside, (2, 4, 2), (100, 200))
    pair, field = figures
    assert [axes.get_title() for axes in pair.axes] == ["before", "after"]
    left, right, bar = field.axes
    assert left.get_xlim() == right.get_xlim() == (199.5, 207.5)
    assert right.get_ylim() == (105.5, 99.5), "rows go down"
    assert all(each.get_title() and each.get_xlabel() for each in (left, right))
    assert left.get_ylabel() and bar.get_ylabel()
    (token,) = left.patches
    assert (token.get_xy(), token.get_width()) == ((203.5, 101.5), 2)


def test_the_filters_are_orthonormal_but_for_a_factor() -> None:
    bank = photograph.filters().flatten(1).double()
    gram = bank @ bank.T
    nearly(gram.float(), gram[0, 0] * torch.eye(len(bank), dtype=torch.float64), bank.shape[1])


def test_the_demos_network_learns() -> None:
    torch.manual_seed(0)
    data, labels = digits.images()
    assert data.shape == (1797, 8, 8)
    net = digits.network()
    few, their = data[: digits.BATCH], labels[: digits.BATCH]
    before = torch.nn.functional.cross_entropy(net(few), their).item()
    digits.train(net, few, their, 12)
    assert torch.nn.functional.cross_entropy(net(few), their).item() < before - 0.5


def test_the_demos_gradients_are_those_of_the_reference() -> None:
    """A weight gradient of the embedding once addressed its tile without the image's own axis."""
    torch.manual_seed(0)
    inputs = {digits.embed: torch.randn(5, 8, 8), digits.attend: torch.randn(5, 4, 4, 8)}
    for mixer, x in inputs.items():
        sizes: dict[str, Any] = {"c": 8, "y": 8, "x": 8} if mixer is digits.embed else {"c": 8}
        ours = mixer.module(**sizes)
        y = ours(x)
        cotangent = torch.randn_like(y)
        weights = dict(ours.named_parameters())
        slopes = dict(zip(weights, torch.autograd.grad(y, list(weights.values()), cotangent), strict=True))
        program = cast(Program, ours.program)
        (entry,), (result,) = program.inputs, program.outputs
        tensors = {entry.leaf.name: x, **{name: each.detach() for name, each in weights.items()}}
        agree_gradients(slopes, program, tensors, {result.name: cotangent}, torch.float32)


def test_shifted_images_keep_what_stays_inside() -> None:
    image = torch.full((40, 8, 8), -1.0)
    image[:, 2:6, 2:6] = torch.rand(40, 4, 4)
    moved = digits.shifted(image)
    nearly(moved.sum((1, 2)), image.sum((1, 2)), 64)
    assert not torch.equal(moved, image)


def test_a_build_that_takes_too_long_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "PATIENCE", 1)

    def slow() -> list[torch.Tensor]:
        time.sleep(10)
        return []

    assert speed.build("slow", slow, []) is None
    assert "slow: not built within 1 s" in capsys.readouterr().out


def test_a_peer_that_computes_something_else_is_found() -> None:
    with pytest.raises(AssertionError, match="other computes the same"):
        speed.build("other", lambda: [torch.ones(3)], [torch.zeros(3)])


def test_a_step_that_does_not_hold_ends_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def wrong(out: Path) -> str:
        raise AssertionError("one is two")

    monkeypatch.setitem(demo.STEPS, "show", ("A step", wrong))
    with pytest.raises(SystemExit, match="ended at `show`, because this does not hold: one is two"):
        demo.main(["--only", "show", "--out", str(tmp_path)])


@pytest.mark.parametrize("name", ["matplotlib", "sklearn"])
def test_what_the_demo_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Lacking(name), *sys.meta_path])
    shown = [("noise", torch.zeros(3, 4, 4))]
    steps = {
        "matplotlib": lambda out: pictures.side_by_side(out / "a.png", shown),
        "sklearn": lambda out: digits.images(),
    }
    monkeypatch.setitem(demo.STEPS, "show", ("A step", steps[name]))
    with pytest.raises(SystemExit, match=f"the demo needs `{name}.*pip install 'plait\\[demo\\]'"):
        demo.main(["--only", "show", "--out", str(tmp_path)])


class Lacking:
    """A finder by which a package is not there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_demo_ends_in_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        demo.main(["--only", "show", "--out", str(tmp_path)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"Shown in \d+ min \d+ s: one definition .*\.", last)


@pytest.mark.slow
def test_the_whole_demo_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"photograph.png", "receptive_field.png"}
    assert "Warning" not in done.stdout + done.stderr
