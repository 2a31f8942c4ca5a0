"""`plait show|check|compile|explain|catalogue|aot|doctor|cache`. `targets` says what they work on.

Exit codes: 0 all is well; 1 a mistake of the user's, as one message on stderr, or something missing on this
machine; 2 a wrong command line; 70 a fault of plait.
"""

from __future__ import annotations

import functools
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import click

from . import api
from .dsl.errors import CompilerFault, PlaitError
from .dsl.mistakes import InvalidArgument
from .dsl.proofs.check import check as check_program
from .targets import program, shapes

TARGET = """\b
TARGET is one of
  FILE.plait        the last mixer of a text; FILE.plait:NAME another one
  FILE.py:NAME      a mixer of a Python file, which is imported
  an operator       of the library: `plait catalogue` lists them

GIVEN are static arguments and sizes, each NAME=VALUE: radius=5 d=64."""


def version() -> str:
    """That of the installed package, or of the tree that is imported in place."""
    try:
        return installed_version("plait")
    except PackageNotFoundError:
        pass
    try:
        project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError:
        return "unknown"
    return str(project["project"]["version"])


@click.group(help="Write a token mixer as the paper writes it; get its kernel, gradient and module.")
@click.version_option(version(), message="plait %(version)s")
def main() -> None:
    """The command line."""


def command(about: str, more: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A subcommand under the function's name, with one line of help and more, its mistakes reported."""

    def made(run: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(run)
        def reported(**given: Any) -> None:
            try:
                run(**given)
            except PlaitError as mistake:
                click.echo(str(mistake), err=True)
                sys.exit(1)
            except CompilerFault as fault:
                click.echo(str(fault), err=True)
                sys.exit(70)

        return main.command(help=f"{about}\n\n{more}", short_help=about.rstrip("."))(reported)

    return made


def on_target(about: str, more: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A subcommand on a target and what is given for it."""

    def made(run: Callable[..., None]) -> Callable[..., None]:
        run = click.argument("target")(click.argument("given", nargs=-1)(run))
        return command(about, f"{more}\n\n{TARGET}")(run)

    return made


of_type = click.option(
    "--dtype",
    type=click.Choice(["float32", "float64", "bfloat16", "float16"]),
    help="Of the tensors; else float32.",
)
"""The option that says of which type the tensors are."""


def real(dtype: str | None) -> Any:
    """The torch.dtype of this name."""
    return None if dtype is None else api.door("backends.precision").DTYPES[dtype]


@on_target("Print the program as text.")
def show(target: str, given: tuple[str, ...]) -> None:
    click.echo(str(program(target, given)))


@on_target(
    "Look for mistakes in it.",
    "Names, axes, sizes, kinds, and whether outputs are present; what only a call can decide is listed.",
)
def check(target: str, given: tuple[str, ...]) -> None:
    made = program(target, given)
    for finding in check_program(made):
        click.echo(f"open: {finding}")
    click.echo(f"{made.name}: no mistakes")


@on_target(
    "Build the kernels; print where they are.",
    "Sizes that shape the code (widths of channels) and are not given are taken as 64.",
)
@click.option("--backend", type=click.Choice(["cpp", "triton"]), default="cpp", show_default=True)
@of_type
@click.option("--source", is_flag=True, help="Print the generated source.")
@click.option(
    "--kernel", is_flag=True, help="Print the kernels in the Kernel language, which both backends print."
)
def compile(
    target: str, given: tuple[str, ...], backend: Any, dtype: str | None, source: bool, kernel: bool
) -> None:
    made = api.compile(program(target, given), backend=backend, dtype=real(dtype), on_unfused="quiet")
    if kernel:
        click.echo("\n\n".join(map(str, made.tile_programs)))
        return
    built = made.kernels
    if source:
        click.echo("\n".join(dict.fromkeys(each.source.rstrip() for each in built)))
        return
    for each in built:
        place = getattr(each, "library", None)
        lines = len(each.source.splitlines())
        click.echo(f"{each.name}: {each.backend}, {place or f'{lines} lines of source'}")


@on_target(
    "Say what is computed where, at what cost, and why.",
    "Each kernel with its schedule, FLOPs, bytes and the bound on its time, and what is stored instead of fused. "
    "With shapes there are numbers beside the formulas.",
)
@click.option("--shape", multiple=True, metavar="NAME=8,64,64", help="The shape of an input; once for each.")
@click.option("--backend", type=click.Choice(["cpp", "triton"]), default="cpp", show_default=True)
@of_type
@click.option("--html", type=click.Path(dir_okay=False), help="Write it as a page with drawings.")
def explain(
    target: str,
    given: tuple[str, ...],
    shape: tuple[str, ...],
    backend: Any,
    dtype: str | None,
    html: str | None,
) -> None:
    made = api.compile(program(target, given), backend=backend, dtype=real(dtype), on_unfused="quiet")
    report = made.explain(shapes(shape) if shape else None)
    if html is None:
        click.echo(str(report))
        return
    try:
        Path(html).write_text(report.to_html(), encoding="utf-8")
    except OSError as problem:
        raise InvalidArgument(f"`{html}` cannot be written: {problem.strerror}") from problem
    click.echo(f"wrote {html}")


@on_target(
    "Compile for a GPU that need not be here.",
    "Prints registers, spills, shared memory, instructions and a predicted time for each kernel.",
)
@click.option("--for", "gpu", default="sm_90", show_default=True, help="sm_80, sm_90, sm_100 or gfx942.")
@click.option("--shape", multiple=True, metavar="NAME=8,64,64", help="The shape of an input; once for each.")
@of_type
@click.option("--backward", is_flag=True, help="The kernels of the gradient.")
def aot(
    target: str, given: tuple[str, ...], gpu: str, shape: tuple[str, ...], dtype: str | None, backward: bool
) -> None:
    for report in api.aot(program(target, given), gpu, shapes(shape), real(dtype), backward):
        click.echo(str(report))


@command(
    "List the operators of the library.",
    "Each is a target by its name. WORD keeps those that have it in name, paper, title, year or arXiv number.",
)
@click.argument("word", default="")
def catalogue(word: str) -> None:
    found = [
        each
        for each in api.door("stdlib.catalogue").catalogue()
        if word.lower() in f"{each.name} {each.paper} {each.title} {each.year} {each.arxiv}".lower()
    ]
    if not found:
        click.echo(f"no operator has `{word}` in its name, paper, title, year or arXiv number", err=True)
        sys.exit(1)
    width = max(len(each.name) for each in found)
    for each in found:
        click.echo(f"{each.name:{width}}  {each.title} ({each.year}, arXiv {each.arxiv})")


@command(
    "Say what works here and what to do.",
    "Versions, compiler, triton, CUDA, cache. The exit code is 1 where something is missing that the CPU needs.",
)
def doctor() -> None:
    findings = list(api.door("doctor").findings())
    for each in findings:
        click.echo(str(each))
    if any(each.needed and not each.good for each in findings):
        sys.exit(1)


@command(
    "Print the folder of built kernels.",
    "PLAIT_CACHE_DIR moves it.",
)
@click.option("--clear", is_flag=True, help="Remove them.")
def cache(clear: bool) -> None:
    store = api.door("backends.cache")
    if clear:
        click.echo(f"removed {store.clear()} files")
    click.echo(str(store.cache_dir()))
