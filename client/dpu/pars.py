"""Process parameters as a tree: shown, changed by attribute, and given to `run` as what was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from dpu.errors import BadOption, UnknownOption
from dpu.options import listed, nearest, parameter
from dpu.values import Plain, from_map

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpu_api.v1.catalogue_pb2 import Bounds, Catalogue, Stage

#: Parameters by name, below groups by name: {'BiasFrame': {'process_params': {'SIGMA_CLIP': 3.0}}}.
Tree: TypeAlias = "dict[str, Any]"


class UnknownParameter(UnknownOption, AttributeError):
    """There is no such process parameter."""


class Group:
    """A branch of the tree of process parameters. Its members are attributes, to read and to change."""

    _name: str
    _tree: Tree
    _bounds: Mapping[str, Bounds]
    _changed: dict[str, Plain]

    def __init__(self, name: str, tree: Tree, bounds: Mapping[str, Bounds], changed: dict[str, Plain]) -> None:
        # Around our own __setattr__, which changes parameters.
        vars(self).update(_name=name, _tree=tree, _bounds=bounds, _changed=changed)

    def __getattr__(self, name: str) -> Any:
        """Return the value of a parameter, or a branch. Raises UnknownParameter with the nearest name."""
        member, whole = self._member(name), _whole(self._name, name)
        if isinstance(member, dict):
            return Group(whole, member, self._bounds, self._changed)
        return self._changed.get(whole, member)

    def __setattr__(self, name: str, value: object) -> None:
        """Change a parameter.

        Raises UnknownParameter with the nearest name, BadOption for a value of another kind or out of bounds.
        """
        member, whole = self._member(name), _whole(self._name, name)
        if isinstance(member, dict):
            raise BadOption(f"{whole} is a group: change one of its members, {listed(member)}")
        self._changed[whole] = parameter(whole, value, member, self._bounds.get(whole))

    def __dir__(self) -> list[str]:
        return sorted(self._tree)

    def __repr__(self) -> str:
        return "\n".join([self._name, *_branches(self._tree, self._name, self._changed, " ")])

    def _member(self, name: str) -> Any:
        if name not in self._tree:
            known = sorted(self._tree)
            raise UnknownParameter(
                f"{self._name or 'Pars'} has no {name!r}{nearest(name, known)}; it has {listed(known)}"
            )
        return self._tree[name]


class Pars(Group):
    """The process parameters of a product class, a task or a sequence.

    pars = Pars('BiasFrame', instrument='OMEGACAM', chip='ESO_CCD_#77')
    pars.show()                                        the tree with every value
    pars.BiasFrame.process_params.SIGMA_CLIP = 5.0     change one
    dpu.run('Bias', ..., p=pars.get())                 run with what was changed
    """

    def __init__(self, catalogue: Catalogue, what: object, instrument: str = "") -> None:
        tree: Tree = {}
        bounds: dict[str, Bounds] = {}
        for stage in _stages(catalogue, _name(what)):
            bounds |= stage.parameter_bounds
            for whole, value in (from_map(stage.parameters) | _own(stage, instrument)).items():
                _plant(tree, whole, value)
        super().__init__("", tree, bounds, {})

    def __dir__(self) -> list[str]:
        return [*sorted(self._tree), "get", "show"]

    def __repr__(self) -> str:
        lines: list[str] = []
        for name, member in self._tree.items():
            lines += [name, *_branches(member, name, self._changed, " ")]
        return "\n".join(lines)

    def show(self) -> None:
        """Print the tree."""
        print(self)

    def get(self) -> dict[str, Plain]:
        """Return what was changed, by whole name, for the option `p` of `run`."""
        return dict(self._changed)


def _branches(tree: Tree, name: str, changed: dict[str, Plain], margin: str) -> Iterator[str]:
    """Yield the lines below a branch, sorted by name."""
    yield f"{margin}|"
    for key, member in sorted(tree.items()):
        whole = _whole(name, key)
        if isinstance(member, dict):
            yield f"{margin}+--{key}"
            yield from _branches(member, whole, changed, f"{margin}|   ")
        else:
            yield f"{margin}+--{key}: {changed.get(whole, member)}"


def _stages(catalogue: Catalogue, name: str) -> list[Stage]:
    """Return the stages that `name` means: those of a sequence, or those that make a class or run a task."""
    for sequence in catalogue.sequences:
        if sequence.name == name:
            return list(sequence.stages)
    every = [stage for sequence in catalogue.sequences for stage in sequence.stages]
    found = [stage for stage in every if name in {stage.makes, stage.recipe, f"{stage.recipe}Task"}]
    if not found:
        known = dict.fromkeys([*(item.name for item in catalogue.sequences), *(stage.makes for stage in every)])
        near = nearest(name, list(known))
        raise UnknownOption(f"there are no process parameters of {name!r}{near}; there are some of {listed(known)}")
    return found


def _own(stage: Stage, instrument: str) -> dict[str, Plain]:
    """Return the parameters whose default the instrument sets otherwise."""
    return from_map(stage.instrument_parameters[instrument]) if instrument in stage.instrument_parameters else {}


def _name(what: object) -> str:
    """Return what the user named: a class goes by its name."""
    if isinstance(what, type):
        return what.__name__
    if isinstance(what, str):
        return what
    raise BadOption(f"Pars({what!r}): must be a product class, a task or a sequence, as in Pars('BiasFrame')")


def _whole(name: str, member: str) -> str:
    return f"{name}.{member}" if name else member


def _plant(tree: Tree, whole: str, value: Plain) -> None:
    *groups, leaf = whole.split(".")
    for group in groups:
        tree = tree.setdefault(group, {})
    tree[leaf] = value
