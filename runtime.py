"""What the face's verbs do once there are tensors. `api` opens this module at the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from .backends.autograd import Differentiable
from .backends.cache import COMPILING
from .backends.compiled import BackendName, OnUnfused, Recompute
from .backends.compiled import Compiled as Runner
from .backends.registry import Shelf, untraced
from .dsl.elaboration.mixer import Mixer
from .dsl.mistakes import InvalidArgument, UnknownArgument
from .dsl.program import Program

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from .backends.executable import Built
    from .compiler.kernels.kernel import Kernel
    from .compiler.report.explain import Report


@dataclass(slots=True)
class Compiled:
    """A compiled program: call it on the program's inputs, in order or by name.

    Parameters, buffers and draws are passed by name. Gradients flow. Raises PlaitError.
    """

    runner: Runner
    _differentiable: Differentiable = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._differentiable = Differentiable(self.runner)

    @property
    def program(self) -> Program:
        return self.runner.program

    def __call__(self, *tensors: Tensor, **named: Tensor) -> Any:
        """The output, or a tuple of them: `Any` as for a module's call, since the program says which."""
        results = self._differentiable(self.runner.named(tensors, named))
        outputs = tuple(results[output.name] for output in self.program.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    # --- seeing through it

    @property
    def kernels(self) -> tuple[Built, ...]:
        """The built kernels of the last call, each with name, source, backend; before any call those
        for example sizes."""
        return _inspection().kernels(self.runner)

    @property
    def tile_programs(self) -> tuple[Kernel, ...]:
        """The kernels in the Kernel language, which is what every printer starts from."""
        return _inspection().tile_programs(self.runner)

    @property
    def graph(self) -> GraphModule:
        """The last call as a graph with one node a kernel or reference operation."""
        return _inspection().graph(self.runner)

    def explain(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Report:
        """What each kernel computes, its schedule, FLOPs, bytes against the least, the bound on its time,
        and what is not fused and why: in numbers for tensors of these `shapes` by name, else for those of
        the last call, that of its gradients after it. `str()` is the text, `.to_html()` a page with drawings.
        Raises PlaitError."""
        if shapes is not None:
            return _inspection().report(self.runner, shapes)
        return _explained(*(self._differentiable.ran() or (self.runner,)))


def _inspection() -> Any:
    """The door to the compiler, which a call that finds its kernels in the cache does not open."""
    return import_module(".inspection", __package__)


def compile(
    program_or_mixer: Program | Mixer,
    *,
    backend: BackendName | None = None,
    dtype: torch.dtype | None = None,
    on_unfused: OnUnfused = "warn",
    recompute: Recompute = "auto",
    deterministic: bool = False,
) -> Compiled:
    """See `api.compile`."""
    program = program_of(program_or_mixer)
    runner = Runner(program, backend, dtype, on_unfused, recompute=recompute, deterministic=deterministic)
    return Compiled(runner)


def program_of(program_or_mixer: Program | Mixer) -> Program:
    """The program itself, or that of a mixer's defaults. Raises InvalidArgument."""
    if not isinstance(program_or_mixer, Program | Mixer):
        found = type(program_or_mixer).__name__
        raise InvalidArgument(
            f"`compile` takes a program or a mixer, and found a {found}",
            helps=["`@mixer(header)` makes a mixer of a function, `plait.parse` of a text"],
        )
    return program_or_mixer if isinstance(program_or_mixer, Program) else program_or_mixer.program()


# --- calls of mixers


class Calls:
    """A mixer on tensors: compiled once for its static arguments, then run."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer = mixer
        self.names = mixer.inputs
        self.made = Shelf()

    def __call__(self, inputs: Mapping[str, object], given: Mapping[str, object]) -> object:
        for name, value in inputs.items():
            if not isinstance(value, Tensor):
                raise InvalidArgument(
                    f"input `{name}` of `{self.mixer.name}` is a {type(value).__name__}, not a tensor or a value"
                )
        without = tuple(name for name in self.names if name not in inputs)
        drawn, statics = _apart(given)
        made = self.compiled(without, statics, tuple(sorted(drawn)))
        return made(**cast("Mapping[str, Tensor]", inputs), **drawn)

    def traced(self, inputs: Sequence[object], given: Mapping[str, Any]) -> object:
        """The same in words that TorchDynamo can follow: it cannot look at frames."""
        tensors = dict(zip(self.names, inputs, strict=False))
        tensors |= {name: value for name, value in given.items() if name in self.names}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        without = tuple(name for name in self.names if name not in tensors)
        drawn, statics = _apart({name: value for name, value in given.items() if name not in self.names})
        made = self.compiled(without, statics, tuple(sorted(drawn)))
        return made(**cast("Mapping[str, Tensor]", tensors), **drawn)

    def compiled(
        self, without: tuple[str, ...], statics: tuple[tuple[str, Any], ...], drawn: tuple[str, ...] = ()
    ) -> Compiled:
        self.prepare(without, statics, drawn)
        return getattr(self.made, repr((without, statics, drawn)))

    @untraced
    def prepare(
        self, without: tuple[str, ...], statics: tuple[tuple[str, Any], ...], drawn: tuple[str, ...] = ()
    ) -> bool:
        """Compile for these static arguments, inputs left out, and draws that are passed."""
        key = repr((without, statics, drawn))
        with COMPILING:
            if not hasattr(self.made, key):
                program = self.mixer.program(without=without, **dict(statics))
                _check_has_everything(self.mixer, program, drawn)
                same = (made for made in vars(self.made).values() if made.program is program)
                setattr(self.made, key, next(same, None) or Compiled(Runner(program)))
        return True


def _apart(given: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[tuple[str, Any], ...]]:
    """What a call gives beside its inputs: draws, which are tensors, and static arguments."""
    drawn = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    return drawn, tuple(sorted((name, value) for name, value in given.items() if name not in drawn))


def _check_has_everything(mixer: Mixer, program: Program, drawn: Sequence[str]) -> None:
    """A call has no parameters and buffers, and has the draws that it is given; raises UnknownArgument."""
    for what, table in (("parameters", program.parameters), ("buffers", program.buffers)):
        if table:
            owned = ", ".join(each.leaf.name for each in table)
            raise UnknownArgument(
                f"`{mixer.name}` has {what}, and a call has none of them: {owned}",
                helps=[f"use `{mixer.name}.module(...)`, which owns them"],
            )
    wanted = [each.leaf.name for each in program.draws]
    missing = [name for name in wanted if name not in drawn]
    if missing:
        raise UnknownArgument(
            f"`{mixer.name}` draws random numbers, and the call lacks {', '.join(missing)}",
            helps=["pass them by name, as tensors", f"or use `{mixer.name}.module(...)`, which draws them"],
        )
    unknown = next((name for name in drawn if name not in wanted), None)
    if unknown is not None:
        known = [*mixer.inputs, *wanted]
        raise UnknownArgument(
            f"`{mixer.name}` has no input and no draw `{unknown}`", notes=[f"inputs: {', '.join(known)}"]
        )


def module(mixer: Mixer, **options: Any) -> torch.nn.Module:
    """See `api.Mixer.module`."""
    return import_module(".backends.module", __package__).make_module(mixer, explainer=_explained, **options)


def _explained(*runners: Runner) -> Report:
    """What a module's `explain()` gives for the programs that it runs. A function of a module, so that a
    pickle can name it."""
    first, *others = (_inspection().report(runner) for runner in runners)
    return first.followed_by(others)


def aot(
    program_or_mixer: Program | Mixer,
    target: str,
    shapes: Mapping[str, Sequence[int]],
    dtype: torch.dtype | None,
    backward: bool,
) -> list[Any]:
    """See `api.aot`."""
    return _inspection().aot(program_of(program_or_mixer), target, shapes, dtype, backward)
