"""`plait show|check|compile|explain|aot|doctor|cache` on a `.plait` file or `file.py:name`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import click

from . import api
from .dsl.check import check as check_program
from .dsl.errors import CompilerFault, PlaitError
from .dsl.mistakes import InvalidArgument, UnknownName, UnreadableFile
from .dsl.mixer import Mixer
from .dsl.program import Program

TARGET = "TARGET is a .plait file, FILE.plait:NAME, or FILE.py:NAME. Static arguments follow as NAME=VALUE."


@contextmanager
def reported() -> Iterator[None]:
    """The user's mistakes as one message and exit code 1; a fault of ours as it is, exit code 70."""
    try:
        yield
    except PlaitError as mistake:
        click.echo(str(mistake), err=True)
        sys.exit(1)
    except CompilerFault as fault:
        click.echo(str(fault), err=True)
        sys.exit(70)


def find(target: str) -> Mixer:
    """The mixer that a target names. Python files are imported, texts are only read."""
    path, name = _split(target)
    if path.suffix == ".py":
        return _from_python(path, name)
    mixer = api.load(path)
    if not name or name == mixer.name:
        return mixer
    if name in mixer.siblings:
        return mixer.siblings[name]
    known = ", ".join(f"`{each}`" for each in (*mixer.siblings, mixer.name))
    raise UnknownName(f"`{path}` has no mixer `{name}`", notes=[f"mixers: {known}"])


def _split(target: str) -> tuple[Path, str]:
    head, colon, tail = target.rpartition(":")
    return (
        (Path(head), tail) if colon and head and "/" not in tail and "\\" not in tail else (Path(target), "")
    )


def _from_python(path: Path, name: str) -> Mixer:
    if not path.is_file():
        raise UnreadableFile(f"there is no file `{path}`")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UnreadableFile(f"`{path}` is no Python file")
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    mixers = {key: value for key, value in vars(module).items() if isinstance(value, Mixer)}
    if not name and len(mixers) == 1:
        return next(iter(mixers.values()))
    if name in mixers:
        return mixers[name]
    shown = ", ".join(f"`{path}:{each}`" for each in mixers) or "none"
    raise UnknownName(
        f"`{path}` has no mixer `{name}`" if name else f"`{path}` needs a name", notes=[f"mixers: {shown}"]
    )


def program(target: str, statics: tuple[str, ...]) -> Program:
    """The program of a target with its static arguments."""
    given: dict[str, object] = {}
    for each in statics:
        name, equals, text = each.partition("=")
        if not equals:
            raise InvalidArgument(f"`{each}` is no NAME=VALUE")
        given[name] = _value(text)
    return find(target).program(**given)  # pyright: ignore[reportArgumentType]


def _value(text: str) -> bool | int | float | str:
    """A number or a truth value as Python writes it, anything else as a word. Nothing is evaluated."""
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@click.group(help="Write a token mixer as the paper writes it; get its kernel, gradient and module.")
@click.version_option(package_name="plait")
def main() -> None:
    """The command line."""


def command(run: Callable[..., None]) -> Callable[..., None]:
    """A subcommand on a target, with its mistakes reported."""
    made = click.argument("statics", nargs=-1)(run)
    made = click.argument("target")(made)
    return main.command(help=f"{run.__doc__}\n\n{TARGET}")(made)


@command
def show(target: str, statics: tuple[str, ...]) -> None:
    """Print the program as text."""
    with reported():
        click.echo(str(program(target, statics)))


@command
def check(target: str, statics: tuple[str, ...]) -> None:
    """Check names, axes, sizes, kinds and presence."""
    with reported():
        made = program(target, statics)
        for finding in check_program(made):
            click.echo(f"open: {finding}")
        click.echo(f"{made.name}: no mistakes")


@main.command(help=f"Build the kernels and print where they are, or their source.\n\n{TARGET}")
@click.argument("target")
@click.argument("statics", nargs=-1)
@click.option("--backend", type=click.Choice(["cpp", "triton"]), default="cpp", show_default=True)
@click.option("--source", is_flag=True, help="print the generated source")
@click.option("--kernel", is_flag=True, help="print the kernels in the Kernel language")
def compile(target: str, statics: tuple[str, ...], backend: Any, source: bool, kernel: bool) -> None:
    with reported():
        made = api.compile(program(target, statics), backend=backend, on_unfused="quiet")
        if kernel:
            click.echo("\n\n".join(map(str, made.tile_programs)))
            return
        for built in made.kernels:
            click.echo(
                built.source
                if source
                else f"{built.name}: {built.backend}, {len(built.source.splitlines())} lines"
            )


@command
def explain(target: str, statics: tuple[str, ...]) -> None:
    """Say what is computed where, what it costs, and what is stored and why."""
    with reported():
        click.echo(str(api.compile(program(target, statics), on_unfused="quiet").explain()))


@main.command(help=f"Compile for a GPU that need not be here.\n\n{TARGET}")
@click.argument("target")
@click.argument("statics", nargs=-1)
@click.option("--for", "gpu", default="sm_90", show_default=True, help="sm_80, sm_90, sm_100, gfx942")
@click.option("--shape", multiple=True, help="NAME=8,64,64,64 for each input")
def aot(target: str, statics: tuple[str, ...], gpu: str, shape: tuple[str, ...]) -> None:
    with reported():
        shapes: dict[str, tuple[int, ...]] = {}
        for each in shape:
            name, _, text = each.partition("=")
            try:
                shapes[name] = tuple(int(number) for number in text.split(","))
            except ValueError:
                raise InvalidArgument(f"`{each}` is no NAME=8,64,64") from None
        for report in api.aot(program(target, statics), gpu, shapes):
            click.echo(str(report))


@main.command(help="Say what works here: compiler, triton, CUDA, cache, versions; and what to do.")
def doctor() -> None:
    """Print one line for each thing that plait needs."""
    for line in api.door("doctor").findings():
        click.echo(line)


@main.command(help="Where built kernels are kept; --clear removes them.")
@click.option("--clear", is_flag=True)
def cache(clear: bool) -> None:
    """Print the folder, or empty it."""
    store = api.door("backends.cache")
    if clear:
        click.echo(f"removed {store.clear()} files")
    click.echo(str(store.cache_dir()))
