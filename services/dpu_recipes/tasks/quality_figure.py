"""The figure of quality that is made with a product: what it is, and what it was held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpu_recipes.frames import QUALITY_FIGURE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from dpu_recipes.figure import Panel
    from dpu_recipes.frames import Frame
    from dpu_recipes.task import Request

#: Numbers that a figure has room for.
MOST_VALUES = 12


def of_image(what: str, unit: str, image: NDArray[Any]) -> list[Panel]:
    """Return the panels of an image : (y, x): itself, and how its values are spread."""
    from dpu_recipes.figure import Picture, histogram

    return [Picture(f"{what}, {unit}", image), histogram(f"{what}, {unit}", image)]


def of_map(what: str, bad: NDArray[np.bool_]) -> list[Panel]:
    """Return the panels of a map of bad pixels : (y, x): where they are, and how many each column has."""
    import numpy as np

    from dpu_recipes.figure import Chart, Picture, Series

    counts = bad.sum(axis=0).astype(np.float64)
    by_column = Series(np.arange(counts.size, dtype=np.float64), counts, joined=True)
    return [Picture(f"{what}, white", _gathered(bad)), Chart(f"{what} of a column", "column", (by_column,))]


def save(request: Request, product: Frame, panels: Sequence[Panel]) -> None:
    """Draw and stage the figure of a product that is staged."""
    from dpu_recipes.figure import drawn

    kind = " ".join(filter(None, (product.frame_class, product.instrument, product.chip, product.filter)))
    file = request.scratch / "quality.png"
    file.write_bytes(drawn(f"{kind}, night {product.night}", panels, list(_words(product))))
    request.archive.save(
        product.evolve(frame_class=QUALITY_FIGURE, values={"OF": product.frame_class}, inputs=(product.id,)), file
    )


def _words(product: Frame) -> Iterator[tuple[str, bool]]:
    """Yield what a product was held to, each with whether it was missed, then what else was measured."""
    for name, limit in product.limits.items():
        if isinstance(limit, dict):
            missed = bool(product.quality_flags & int(str(limit["flag"])))
            yield f"{_measured(name)} {limit['measured']:.4g}, at most {limit['limit']:g}", missed
    limited = set(map(_measured, product.limits))
    numbers = [(name, value) for name, value in product.values.items() if isinstance(value, int | float)]
    for name, value in [pair for pair in numbers if pair[0] not in limited][:MOST_VALUES]:
        yield f"{name} {value:.6g}", False


def _measured(limit: str) -> str:
    """Return the name of what a limit is about: 'STDEV' of 'MAXIMUM_STDEV'."""
    return limit.removeprefix("MAXIMUM_")


def _gathered(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a map made smaller, where a pixel is bad if any of those that it stands for is."""
    import numpy as np

    from dpu_recipes.figure import SAMPLED

    step = -(-max(bad.shape) // SAMPLED)
    rows = np.logical_or.reduceat(bad, np.arange(0, bad.shape[0], step), axis=0)
    gathered: NDArray[np.bool_] = np.logical_or.reduceat(rows, np.arange(0, bad.shape[1], step), axis=1)
    return gathered
