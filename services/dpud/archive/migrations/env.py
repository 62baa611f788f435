"""Alembic's entry: runs the steps on the connection that dpud.archive.schema.upgrade hands over."""

from __future__ import annotations

from alembic import context

from dpud.archive.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
