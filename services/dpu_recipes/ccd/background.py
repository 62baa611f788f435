"""The smooth background of a frame, as SExtractor estimates it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sep

if TYPE_CHECKING:
    from numpy.typing import NDArray


def smooth_background(
    image: NDArray[np.float32], *, mask: NDArray[np.bool_] | None = None, mesh: int = 64, filtered: int = 3
) -> NDArray[np.float32]:
    """Return the smooth background of `image` : (y, x), float32, ADU.

    SExtractor's estimate (Bertin & Arnouts 1996, section 4), by sep: in each mesh of `mesh` x `mesh` pixels the
    clipped mode, a median over `filtered` x `filtered` meshes, a bicubic spline between them.

    Parameters
    ----------
    image : (y, x), float32. Not changed.
    mask : (y, x), True where a pixel is left out.
    mesh : pixels; a smaller frame has one mesh of its own size.
    filtered : meshes.
    """
    height, width = image.shape
    estimate = sep.Background(
        np.ascontiguousarray(image, dtype=np.float32),
        mask=mask,
        bw=min(mesh, width),
        bh=min(mesh, height),
        fw=filtered,
        fh=filtered,
    )
    background: NDArray[np.float32] = estimate.back(dtype=np.float32)
    return background
