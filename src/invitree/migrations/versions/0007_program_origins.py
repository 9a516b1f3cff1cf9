"""The origins whose pages may call the service from a browser, a policy of a program."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Its default is a constant, so that no row is written, and this is all that the lock is for."""
    op.execute(
        """
        ALTER TABLE programs
            ADD COLUMN IF NOT EXISTS origins text[] NOT NULL DEFAULT '{}'
                CONSTRAINT programs_origins_bound CHECK (cardinality(origins) <= 50)
        """
    )
