"""An index on where people have logged in, by which their own networks are told from strangers'."""

from alembic import op

from invitree.migrations.gently import build_index, unhurried

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index beside the service."""
    build_index(
        "events_by_network",
        on="events (program_id, user_id, ip_prefix) WHERE kind IN ('account.created', 'login.succeeded')",
    )
    with unhurried():
        op.execute("ANALYZE events")
