"""Templates, filled: text from anywhere is text, never markup."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from dpud.web.queue import Row

HERE = Path(__file__).parent


class Pages:
    """The pages of one DPU, in `at` on this server: '' or '/groningen'."""

    def __init__(self, at: str, **shared: object) -> None:
        self.at = at
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(shared, at=at)
        self._row = self._environment.get_template("row.html")

    def show(self, template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any) -> HTMLResponse:
        """Return a page."""
        return HTMLResponse(self._environment.get_template(template).render(**values), status)

    def event(self, row: Row) -> str:
        """Return a row as a server-sent event: made once, sent to all who look."""
        content = {"id": row.id, "html": self._row.render(row=row)}
        return f"event: job\ndata: {json.dumps(content)}\n\n"
