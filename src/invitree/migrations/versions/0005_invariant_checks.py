"""What the worker found when it last checked what must always hold: a row an invariant."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table. It is about the whole database, and belongs to no program."""
    op.execute(
        """
        CREATE TABLE invariant_checks (
            name text PRIMARY KEY,
            broken_rows bigint NOT NULL,
            checked_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )
