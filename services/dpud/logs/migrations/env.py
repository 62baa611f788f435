"""Runs the steps on the connection that index passes."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], transactional_ddl=True, version_table="log_version"
)
with context.begin_transaction():
    context.run_migrations()
