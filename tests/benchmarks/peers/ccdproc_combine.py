"""Combines the frames named on the command line with ccdproc each time a line comes in; prints the seconds.

Run by the benchmark `stack`, in an environment of its own that has ccdproc and bottleneck.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from ccdproc import combine


def main(files: list[str]) -> None:
    """Answer every line on stdin."""
    warnings.simplefilter("ignore")
    for _ in sys.stdin:
        begun = time.perf_counter()
        # As the CCD Data Reduction Guide recommends (an average, clipped about the median), by the fastest functions
        # that ccdproc documents for it, and with memory enough for one piece.
        combine(
            files,
            method="average",
            unit="adu",
            sigma_clip=True,
            sigma_clip_low_thresh=3,
            sigma_clip_high_thresh=3,
            sigma_clip_func="median",
            sigma_clip_dev_func="std",
            mem_limit=8e9,
            dtype=np.float32,
        )
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
