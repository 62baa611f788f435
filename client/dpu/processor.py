"""The object `dpu` at the prompt."""


class Processor:
    """The Distributed Processing Unit."""
