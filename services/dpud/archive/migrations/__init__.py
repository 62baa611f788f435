"""Steps from one version of the catalogue's tables to the next (Alembic)."""
