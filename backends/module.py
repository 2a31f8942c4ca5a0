"""`PlaitModule`: a mixer as an ordinary `nn.Module` that owns its parameters and buffers.

One class for all mixers; what differs is the programs that a module holds, one a mode and a choice of
optional inputs. Parameters lie under their declared keys (`dwconv.weight` in a plain nn.Module `dwconv`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn

from ..dsl.constructors.initialisers import Initialiser, read_initialiser
from ..dsl.elaboration.mixer import Mixer
from ..dsl.elaboration.text_mixers import parse_mixers
from ..dsl.errors import PlaitError, counted
from ..dsl.mistakes import InvalidArgument, NotYet, UnknownArgument
from ..dsl.printing.show import show
from ..dsl.program import Declaration, Program
from .autograd import Differentiable
from .cache import COMPILING
from .compiled import BackendName, Compiled, OnUnfused, Recompute
from .deployed import deployed
from .fill import declared_tensors, filled
from .hoisted import Hoisted, Memory, split
from .precision import NARROW
from .registry import Shelf, untraced
from .shapes import Layouts

MODES = ("eval", "train")

Path = tuple[str, ...]
"""Where a tensor lies below a module: the names of its containers, then its own."""


class Source(Protocol):
    """What a module is made of: a mixer."""

    def program(
        self, *, mode: str = "eval", without: Sequence[str] = (), **statics_and_sizes: object
    ) -> Program: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """One program of a module, and where its tensors come from."""

    program: Program
    call: Differentiable
    inputs: tuple[str, ...]
    owned: tuple[tuple[str, Path], ...]
    updated: tuple[tuple[str, Path], ...]
    draws: tuple[tuple[str, Initialiser], ...]
    drawn: Layouts
    hoisted: Hoisted | None
    """The program without what it makes of weights only, where there is any."""


def _plan(program: Program, compiled: Compiled) -> Plan:
    owned = (*program.parameters, *program.buffers)
    return Plan(
        program,
        Differentiable(compiled),
        tuple(each.leaf.name for each in program.inputs),
        tuple((each.leaf.name, tuple(each.leaf.name.split("."))) for each in owned),
        tuple((each.buffer.name, tuple(each.buffer.name.split("."))) for each in program.updates),
        tuple((each.leaf.name, read_initialiser(each.init or "normal()")) for each in program.draws),
        Layouts(program, tuple(each.items for each in program.draws)),
        split(program, compiled),
    )


@dataclass(slots=True, eq=False)
class Plans:
    """The programs of a module, made when they are first needed and shared by its copies."""

    source: Source
    optional: Path
    """The inputs that may be left out."""
    given: Mapping[str, object]
    backend: BackendName | None
    on_unfused: OnUnfused
    recompute: Recompute = "auto"
    deterministic: bool = False
    made: Shelf = field(default_factory=Shelf, repr=False)

    @untraced
    def prepare(self, mode: str, without: Path) -> bool:
        """Make the plan for a mode and the optional inputs that are left out."""
        with COMPILING:
            if not hasattr(self.made, _choice(mode, without)):
                program = self.source.program(mode=mode, without=without, **self.given)
                same = (plan for plan in vars(self.made).values() if plan.program == program)
                compiled = Compiled(
                    program, self.backend, on_unfused=self.on_unfused, recompute=self.recompute,
                    deterministic=self.deterministic,
                )  # fmt: skip
                setattr(self.made, _choice(mode, without), next(same, None) or _plan(program, compiled))
        return True

    def plan(self, mode: str, without: Path = ()) -> Plan:
        """Raises whatever is wrong with the program."""
        if not torch.compiler.is_compiling():
            found = getattr(self.made, _choice(mode, without), None)
            if found is not None:
                return found
        self.prepare(mode, without)
        return getattr(self.made, _choice(mode, without))

    def choices(self) -> Iterator[tuple[str, Path]]:
        """Every mode with every choice of optional inputs that the source has a program for."""
        for mode in MODES:
            for count in range(len(self.optional) + 1):
                for without in combinations(self.optional, count):
                    try:
                        self.prepare(mode, without)
                    except PlaitError:
                        continue
                    yield mode, without

    def __deepcopy__(self, memo: object) -> Plans:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """As text, so that a pickle holds no code of the author and no axis of this process."""
        texts = {choice: show(self.plan(*choice).program) for choice in self.choices()}
        options = self.backend, self.on_unfused, self.recompute, self.deterministic
        return Plans, (Texts(texts), self.optional, {}, *options)


def _choice(mode: str, without: Path) -> str:
    return "_without_".join((mode, *without))


@dataclass(frozen=True, slots=True)
class Texts:
    """A source that was pickled: the text of each program."""

    texts: Mapping[tuple[str, Path], str]

    def program(
        self, *, mode: str = "eval", without: Sequence[str] = (), **statics_and_sizes: object
    ) -> Program:
        text = self.texts.get((mode, tuple(without)))
        if text is None:
            raise InvalidArgument(f"the module has no program for mode {mode!r} without {', '.join(without)}")
        return parse_mixers(text, "<module>", Mixer).program(mode=mode)


class PlaitModule(nn.Module):
    """A mixer with its parameters. `forward` takes the inputs in order or by name, and draws by name; it
    returns the output, or a tuple of them in the order of the header."""

    def __init__(self, plans: Plans, explainer: Callable[..., object] | None = None) -> None:
        super().__init__()
        self._plans = plans
        self._explainer = explainer
        self._made_of_weights = Memory()
        self._made_of: Mapping[str, Path] = {}

    @property
    def program(self) -> Program:
        """The program of the present mode, with all optional inputs."""
        return self._plans.plan(self._mode()).program

    def explain(self) -> object:
        """The report of the present mode's program: kernels, costs, and what is not fused and why."""
        if self._explainer is None:
            raise NotYet("this module was made without a report", helps=["make it with `mixer.module(...)`"])
        plan = self._plans.plan(self._mode())
        ran = [*plan.call.ran(), *(plan.hoisted.ran() if plan.hoisted is not None else ())]
        return self._explainer(*(ran or [plan.call.compiled]))

    def deploy(self) -> PlaitModule:
        """A module of its own of the deploy form of the program of eval mode, in eval mode: what is made of weights
        only is computed once and is the parameters `deployed.0`, `deployed.1` ...; the rest are copies.

        It has one program, so that `train()` changes nothing, and no key that only training needs. None of its
        parameters asks for a gradient: what it learns after `requires_grad_()` is not learned by this module.
        New values are computed in float64 and rounded once to the dtype of what they are made of. Raises NotYet
        where the author has declared another deploy form.
        """
        plans = self._plans
        if isinstance(plans.source, Mixer) and plans.source.deployed is not None:
            raise NotYet(
                f"`{self.program.name}` declares a deploy form, and plait makes no module of these yet"
            )
        choices = [without for mode, without in plans.choices() if mode == "eval"]
        found = deployed(
            {without: plans.plan("eval", without).program for without in choices},
            lambda name: self._held(tuple(name.split("."))),
            plans.plan("eval").call.compiled,
        )
        made = PlaitModule(replace(plans, source=found.source, given={}, made=Shelf()), self._explainer)
        made._made_of = {**self._made_of, **found.made_of}
        for declaration, tensor in found.tensors:
            _hold(made, declaration, tensor)
        return made.requires_grad_(False).eval()

    def extra_repr(self) -> str:
        optional = self._plans.optional
        program = self.program
        inputs = tuple(replace(each, optional=each.leaf.name in optional) for each in program.inputs)
        first = show(replace(program, inputs=inputs)).split("\n", 1)[0]
        made = (f"{name}: of {', '.join(reads)}" for name, reads in self._made_of.items())
        return "\n".join([first.removeprefix("mixer ").removesuffix(":"), *made])

    def _mode(self) -> str:
        return "train" if self.training else "eval"

    # --- calls

    def forward(self, *inputs: Tensor | None, **named: Tensor | None) -> Tensor | tuple[Tensor, ...]:
        mode = self._mode()
        plan = self._plans.plan(mode)
        tensors = _given(plan, self._plans.optional, inputs, named)
        without = tuple([name for name in plan.inputs if name not in tensors])
        if without:
            plan = self._plans.plan(mode, without)
        for name, path in plan.owned:
            tensors[name] = self._held(path)
        if torch.is_grad_enabled():
            # Autograd keeps the value that was read; the buffer itself is about to change.
            for name, _ in plan.updated:
                tensors[name] = tensors[name].clone()
        if plan.draws:
            _draw(plan, tensors)
        results = self._results(plan, tensors)
        for name, path in plan.updated:
            with torch.no_grad():
                self._held(path).copy_(results[f"update:{name}"])
        outputs = tuple(results[name] for name in plan.call.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _results(self, plan: Plan, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        results = None
        if plan.hoisted is not None and not torch.compiler.is_compiling():
            results = plan.hoisted(tensors, self._made_of_weights)
        return plan.call(tensors) if results is None else results

    def train(self, mode: bool = True) -> Self:
        """See nn.Module. What was computed from the weights is computed again, so that this is the way to
        tell the module of edits that torch cannot see."""
        self._made_of_weights.clear()
        return super().train(mode)

    def _held(self, path: Path) -> Tensor:
        place: Any = self
        for part in path:
            place = getattr(place, part)
        return place


def _given(
    plan: Plan, optional: Path, inputs: Sequence[Tensor | None], named: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """The tensors of a call by name. None stands for an optional input that is left out."""
    program = plan.program
    if not named and len(inputs) == len(plan.inputs) and all(isinstance(each, Tensor) for each in inputs):
        return dict(zip(plan.inputs, cast("Sequence[Tensor]", inputs), strict=True))
    if len(inputs) > len(plan.inputs):
        raise UnknownArgument(
            f"`{program.name}` takes {counted(len(plan.inputs), 'input')}, and {len(inputs)} were given",
            notes=[f"inputs: {', '.join(plan.inputs) or 'none'}"],
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in zip(plan.inputs, inputs, strict=False):
        if tensor is not None:
            tensors[name] = tensor
    drawn = [name for name, _ in plan.draws]
    for name, tensor in named.items():
        if name not in plan.inputs and name not in drawn:
            raise UnknownArgument(
                f"`{program.name}` has no input `{name}`",
                notes=[f"inputs: {', '.join((*plan.inputs, *drawn))}"],
            )
        if name in plan.inputs[: len(inputs)]:
            raise UnknownArgument(f"input `{name}` is given twice, by position and by name")
        if tensor is not None:
            tensors[name] = tensor
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise InvalidArgument(
                f"input `{name}` of `{program.name}` is a {type(tensor).__name__}, not a tensor"
            )
    for name in plan.inputs:
        if name not in tensors and name not in optional:
            raise UnknownArgument(
                f"`{program.name}` needs the input `{name}`", notes=[f"inputs: {', '.join(plan.inputs)}"]
            )
    return tensors


def _draw(plan: Plan, tensors: dict[str, Tensor]) -> None:
    """Fill in the draws that were not passed."""
    real = next((tensor for tensor in tensors.values() if tensor.is_floating_point()), None)
    some = next(iter(tensors.values()))
    dtype = (
        torch.get_default_dtype() if real is None else torch.float32 if real.dtype in NARROW else real.dtype
    )
    shapes = plan.drawn.read(tensors)
    for (name, how), shape in zip(plan.draws, shapes, strict=True):
        if name not in tensors:
            tensors[name] = filled(torch.empty(shape, dtype=dtype, device=some.device), how)


# --- making


def make_module(
    source: Source | Program,
    *,
    backend: BackendName | None = None,
    on_unfused: OnUnfused = "warn",
    recompute: Recompute = "auto",
    deterministic: bool = False,
    given: Mapping[str, object] | None = None,
    explainer: Callable[..., object] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> PlaitModule:
    """A module of a mixer (or of one program, which then serves both modes).

    `given` are static arguments and sizes by name. Real parameters are of `dtype`, by default torch's.
    Its tensors are those of all its programs together. Raises InvalidSize for a parameter whose size is not
    known, DuplicateParameter and InvalidArgument for keys that no module can hold, and whatever is wrong
    with the programs.
    """
    optional = source.definition.arguments.optional if isinstance(source, Mixer) else ()
    single = _Single(source) if isinstance(source, Program) else source
    plans = Plans(single, optional, dict(given or {}), backend, on_unfused, recompute, deterministic)
    module = PlaitModule(plans, explainer)
    for mode in MODES:
        plans.prepare(mode, ())
    programs = [plans.plan(*choice).program for choice in plans.choices()]
    real = dtype or torch.get_default_dtype()
    for declaration, tensor in declared_tensors(programs, real, device):
        _hold(module, declaration, tensor)
    return module


@dataclass(frozen=True, slots=True)
class _Single:
    """A program for every mode."""

    only: Program

    def program(
        self, *, mode: str = "eval", without: Sequence[str] = (), **statics_and_sizes: object
    ) -> Program:
        if without or statics_and_sizes:
            raise UnknownArgument(f"`{self.only.name}` is a program already: it takes no arguments")
        return self.only


def _hold(module: nn.Module, declaration: Declaration, tensor: Tensor) -> None:
    """Put a tensor under its key and its other keys."""
    if declaration.leaf.role == "parameter":
        smooth = tensor.is_floating_point() or tensor.is_complex()
        tensor = nn.Parameter(tensor, requires_grad=declaration.trainable and smooth)
    for key in (declaration.leaf.name, *declaration.also):
        *containers, own = key.split(".")
        place = module
        for part in containers:
            place = _container(place, part, key, declaration)
        if not own or hasattr(place, own):
            raise _taken(key, declaration)
        if isinstance(tensor, nn.Parameter):
            place.register_parameter(own, tensor)
        else:
            place.register_buffer(own, tensor)


def _container(place: nn.Module, part: str, key: str, declaration: Declaration) -> nn.Module:
    if not part or (hasattr(place, part) and part not in place._modules):
        raise _taken(key, declaration)
    if part not in place._modules:
        place.add_module(part, nn.Module())
    found = place._modules[part]
    assert found is not None
    return found


def _taken(key: str, declaration: Declaration) -> InvalidArgument:
    return InvalidArgument(
        f"no module can hold a tensor under the key `{key}`: a part of it is empty, an attribute of "
        "`nn.Module`, or both a tensor and the container of another",
        at=declaration.span, label="declared here",
    )  # fmt: skip
