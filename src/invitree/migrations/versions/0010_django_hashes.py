"""An index on the hashes of passwords that came from Django, by their scheme.

The one on pbkdf2 alone stays for the version before; the next migration can drop it.
"""

from alembic import op

from invitree.migrations.gently import build_index, unhurried

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index beside the service."""
    build_index(
        "users_by_django_hash",
        on="users (program_id, split_part(password_hash, '$', 1), id DESC) WHERE password_hash NOT LIKE '$%'",
    )
    with unhurried():
        op.execute("ANALYZE users")
