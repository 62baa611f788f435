"""An index of the calibrations that are valid long before or after their night."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_DAYS_20 = 20 * 86_400_000_000


def upgrade() -> None:
    """Make it."""
    lasting = sa.text(
        f"job IS NOT NULL AND (timestamp_start < date_obs - {_DAYS_20} OR timestamp_end > date_obs + {_DAYS_20})"
    )
    columns = ["audience", "frame_class", "instrument", "chip"]
    op.create_index("frames_lasting", "frames", columns, sqlite_where=lasting, postgresql_where=lasting)


def downgrade() -> None:
    """Take it away."""
    op.drop_index("frames_lasting", "frames")
