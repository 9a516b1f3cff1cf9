"""An index on how codes read to people, who cannot tell O from 0, or I and L from 1."""

from alembic import op

from invitree.migrations.gently import build_index, unhurried

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index beside the service, and have PostgreSQL learn at once how little each entry of it finds."""
    build_index("codes_by_reading", on="codes (program_id, translate(code, 'OIL', '011'))")
    with unhurried():
        op.execute("ANALYZE codes")
