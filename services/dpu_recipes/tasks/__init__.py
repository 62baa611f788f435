"""The recipes, one a file: which inputs, which steps, what is saved. What happens to the pixels is in dpu_recipes.ccd.

Arrays are imported when a task runs, not when a recipe is described.
"""
