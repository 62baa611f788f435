"""The astronomy: recipes that turn raw CCD frames into calibrations and science products.

Nothing here knows that a DPU exists: a recipe gets an archive (dpu_recipes.archive.Archive) and arrays, and works as
well in a notebook.
"""

__version__ = "0.1.0"
