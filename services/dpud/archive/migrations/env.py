"""Alembic's entry: runs the steps on the connection that dpud.archive.schema.upgrade hands over."""

from __future__ import annotations

from alembic import context

from dpud.archive.schema import METADATA, version_table

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, version_table=version_table(connection))
context.run_migrations()
