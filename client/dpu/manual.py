"""What `dpu.help()` prints."""

from __future__ import annotations

from inspect import getdoc, signature


def manual(kind: type) -> str:
    """Return a class's own words, then every method with its first line."""
    rows = [getdoc(kind) or "", ""]
    for name, member in vars(kind).items():
        if callable(member) and not name.startswith("_"):
            asked = signature(member)
            bare = [item.replace(annotation=item.empty) for item in list(asked.parameters.values())[1:]]
            shown = asked.replace(parameters=bare, return_annotation=asked.empty)
            rows += [f"dpu.{name}{shown}", f"    {(getdoc(member) or '').splitlines()[0]}"]
    return "\n".join(rows)
