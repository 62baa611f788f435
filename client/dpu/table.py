"""Tables for windows of any width: what matters least is left out where there is no room for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

#: Cells between two columns.
GAP = 2
#: A cell that needs more room is folded.
LONGEST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a table is made of."""

    names: tuple[str, ...]
    #: Those of numbers, at the right of their columns.
    figures: frozenset[str] = frozenset()
    #: Those that may be left out, the first one first.
    spare: tuple[str, ...] = ()

    def fitting(self, rows: Sequence[Sequence[str]], width: int) -> tuple[str, ...]:
        """Return the columns for which a window of `width` cells has room."""
        needs = {name: max(map(len, (name, *(row[place] for row in rows)))) for place, name in enumerate(self.names)}
        left = list(self.names)
        for name in self.spare:
            if sum(min(needs[kept], LONGEST) + GAP for kept in left) <= width:
                break
            left.remove(name)
        return tuple(left)

    def table(self, rows: Sequence[Sequence[str]], width: int, styles: Sequence[str] = ()) -> Table:
        """Return the rows as a table for a window of `width` cells, each in its style where there are some."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        names = self.fitting(rows, width)
        places = [self.names.index(name) for name in names]
        # Room for the words: 80 columns are few.
        drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for name in names:
            drawn.add_column(name, justify="right" if name in self.figures else "left", overflow="fold")
        for number, row in enumerate(rows):
            drawn.add_row(*(Text(row[place]) for place in places), style=styles[number] if styles else "")
        return drawn
