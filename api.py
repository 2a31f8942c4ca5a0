"""The face's own verbs. Importing this loads no torch: what runs lives in `runtime`, behind a door."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .dsl.elaboration import mixer as dsl_mixer
from .dsl.elaboration import text_mixers
from .dsl.program import Program

if TYPE_CHECKING:
    import torch

    from .compiler.report.explain import Report
    from .runtime import Compiled

BackendName = Literal["reference", "cpp", "triton"]
OnUnfused = Literal["warn", "error", "quiet"]
Recompute = Literal["auto", "all", "none"]


def door(name: str) -> Any:
    """A module of plait that brings torch or the compiler with it, opened when it is needed and never
    by an import."""
    return import_module(f".{name}", __package__)


def _runtime() -> Any:
    return door("runtime")


if "torch" in sys.modules:
    # Who has torch is going to run what he writes: the first call need not wait for these imports.
    _runtime()


class Mixer(dsl_mixer.Mixer):
    """A program that is still to be told its static arguments and sizes.

    `mixer(*tensors, **static)` runs it, compiled, with autograd; on values of another mixer it
    becomes part of that mixer's program. `program(**static)` is the program, whose `str` is the text
    spelling. `module(**static_and_sizes)` is an `nn.Module` that owns the parameters.
    """

    calls: Any = None
    """The compiled programs, once there was a call on tensors: a `runtime.Calls`."""

    def ready(self) -> bool:
        """Open the runtime. TorchDynamo runs this as it is (`backends.registry.untraced`)."""
        if self.calls is None:
            self.calls = _runtime().Calls(self)
        return True

    ready._dynamo_marked_constant = True

    def __call__(self, *inputs: object, **given: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling():
            self.ready()
            return self.calls.traced(inputs, given)
        return super().__call__(*inputs, **given)

    def on_tensors(self, inputs: Mapping[str, object], given: Mapping[str, object]) -> object:
        self.ready()
        return self.calls(inputs, given)

    def module(
        self,
        *,
        backend: BackendName | None = None,
        on_unfused: OnUnfused = "warn",
        recompute: Recompute = "auto",
        deterministic: bool = False,
        **statics_and_sizes: object,
    ) -> torch.nn.Module:
        """An `nn.Module` with the parameters and buffers of the program under their declared names.

        `statics_and_sizes` are static arguments and sizes of axes by name; the axes of parameters
        need sizes. `forward` takes the inputs by position or by name; the other options are those of `compile`.
        Raises PlaitError.
        """
        return _runtime().module(
            self, backend=backend, on_unfused=on_unfused, recompute=recompute, deterministic=deterministic,
            given=statics_and_sizes,
        )  # fmt: skip

    def explain(
        self,
        shapes: Mapping[str, Sequence[int]] | None = None,
        *,
        backend: BackendName | None = None,
        **statics_and_sizes: Any,
    ) -> Report:
        """The report of its program, as that of `compile`, without building anything.

        `shapes` of tensors by name give numbers beside the formulas. Raises PlaitError.
        """
        made = compile(self.program(**statics_and_sizes), backend=backend, on_unfused="quiet")
        return made.explain(shapes)


mixer = Mixer.decorate


def parse(text: str, path: str = "<text>") -> Mixer:
    """The last mixer of a text; `.siblings` are the others by name.

    Raises InvalidSyntax with the place, TooDeep, and every mistake of the mixers together.

    >>> from plait import parse
    >>> double = parse("mixer double(x[h]) -> y[h]:\\n  y = 2*x\\n")
    >>> print(double.program())
    mixer double(x[h]) -> y[h]:
      y = 2 * x
    """
    return text_mixers.parse_mixers(text, path, Mixer)


def load(path: str | Path) -> Mixer:
    """`parse` of a `.plait` file. Raises UnreadableFile for what cannot be a program."""
    return text_mixers.load_mixers(Path(path), Mixer)


def compile(
    program_or_mixer: Program | dsl_mixer.Mixer,
    *,
    backend: BackendName | None = None,
    dtype: torch.dtype | None = None,
    on_unfused: OnUnfused = "warn",
    recompute: Recompute = "auto",
    deterministic: bool = False,
) -> Compiled:
    """A callable on tensors, with `.explain()`, `.kernels` and `.graph`.

    A mixer is compiled with its default static arguments; give `mixer.program(...)` for others.
    `backend` None is Triton on CUDA tensors and C++ on CPU tensors; `dtype` None is that of the
    tensors. `on_unfused` says what to do about parts without a kernel: "warn", "error" (raises
    NotFused) or "quiet".

    `recompute` says what a call keeps for its gradient beside its inputs: "auto" what streaming kernels
    have anyway (their results and the log-sum-exp of their scores), "all" nothing, so that the gradient
    computes all of it again, "none" every reduction that the gradient reads, scores too. Results are the
    same. Raises UnknownBackend, WrongDtype, InvalidArgument.

    Results and gradients are the same bits at every call and for every number of threads, but for one case:
    what is added up at positions that depend on data (a scatter; `explain()` names each) a GPU adds in the
    order in which it arrives. `deterministic` has it sort first, which takes longer, and so does
    `torch.use_deterministic_algorithms`.
    """
    return _runtime().compile(
        program_or_mixer, backend=backend, dtype=dtype, on_unfused=on_unfused, recompute=recompute,
        deterministic=deterministic,
    )  # fmt: skip


def aot(
    program_or_mixer: Program | dsl_mixer.Mixer,
    target: str = "sm_90",
    shapes: Mapping[str, Sequence[int]] | None = None,
    dtype: torch.dtype | None = None,
    backward: bool = False,
) -> list[Any]:
    """Compile for a GPU that need not be here: one KernelReport a kernel.

    `shapes` are those of the inputs by name; `target` is sm_80, sm_90, sm_100 or gfx942. A report has
    name, registers, spills, shared_memory, instructions, predicted_time. Raises UnknownBackend.
    """
    return _runtime().aot(program_or_mixer, target, shapes or {}, dtype, backward)
