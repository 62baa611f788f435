"""What a recipe is: how a stage is split into tasks, and what one task does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import IntFlag
    from pathlib import Path

    from dpu_recipes.archive import Archive
    from dpu_recipes.frames import Plain
    from dpu_recipes.instrument import Instrument


class RecipeError(Exception):
    """The input cannot be reduced; the message is one clear line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One task of a stage, as its plan describes it."""

    #: The chip, or the exposure and the chip: what tells the task from its neighbours.
    label: str
    #: Identifiers of the frames that it reads.
    inputs: tuple[str, ...] = ()
    arguments: Mapping[str, Plain] = field(default_factory=dict)
    #: Estimated seconds and MiB; 0: the recipe's own figures.
    seconds: float = 0.0
    memory_mib: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the description as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the description that `to_dict` gave."""
        return cls(**{**record, "inputs": tuple(record.get("inputs", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a recipe was asked, by a plan or by a task."""

    #: By long name, with the defaults filled in: {'instrument': 'WFI', 'date': '2000-04-28', 'overscan': 6, ...}.
    options: Mapping[str, Any]
    instrument: Instrument
    #: The recipe's process parameters: an instance of its `parameters`.
    parameters: Any
    archive: Archive
    #: An empty folder of the task's own, removed after it.
    scratch: Path


class Recipe(ABC):
    """One recipe: what it makes, how its stage is split, what one task does."""

    #: 'Bias': the name of the stage.
    name: ClassVar[str]
    #: Class of the frames that it starts from, and of the product that it makes.
    selects: ClassVar[str]
    makes: ClassVar[str]
    #: Classes that it may start from instead, where there is none of that, the best first.
    instead: ClassVar[tuple[str, ...]] = ()
    #: The class that it starts from where an option has a value, by both: {'combine=3': 'TwilightFlatFrame'}.
    selects_with: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: Process parameters of the product: a frozen dataclass of fields made by dpu_recipes.pars.parameter.
    parameters: ClassVar[type]
    #: The product's quality flags: a bit a limit, by the limit's name.
    flags: ClassVar[type[IntFlag]]
    #: Declared figures of one task, until there is a history.
    seconds: ClassVar[float]
    memory_mib: ClassVar[int]
    #: Whether a next stage may go on with the tasks that succeeded.
    partial: ClassVar[bool] = True

    def starts_from(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the classes of which it takes the first that has frames; `options` by long name."""
        said = {f"{name}={value}" for name, value in options.items()}
        chosen = tuple(frame_class for key, frame_class in self.selects_with.items() if key in said)
        return chosen or (self.selects, *self.instead)

    @abstractmethod
    def plan(self, request: Request) -> list[TaskSpec]:
        """Split the stage into tasks. Raises RecipeError where there is nothing to do, and says why."""

    @abstractmethod
    def run(self, request: Request, spec: TaskSpec) -> None:
        """Do one task: read its inputs, compute, save its products. Raises RecipeError."""
