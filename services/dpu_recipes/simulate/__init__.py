"""A simulator of small nights of a CCD mosaic, whose whole truth is written beside the frames.

`python -m dpu_recipes.simulate FOLDER` from a shell; `write_night(Night(...), folder)` and `Truth.read(folder)` in
Python. What is drawn, and within which ranges: docs/reference/simulator.md.
"""

from dpu_recipes.simulate.detector import Detector, Layout
from dpu_recipes.simulate.exposure import Exposure
from dpu_recipes.simulate.night import BadNight, Night
from dpu_recipes.simulate.truth import Truth
from dpu_recipes.simulate.write import write_night

__all__ = ["BadNight", "Detector", "Exposure", "Layout", "Night", "Truth", "write_night"]
