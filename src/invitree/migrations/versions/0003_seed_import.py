"""Who came from the Django service: written with the user and kept, so that nobody comes twice or again."""

from alembic import op

from invitree.migrations.gently import unhurried

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Finish what 0002 has begun, and add the table of imported users."""
    with unhurried():
        op.execute("ALTER TABLE users VALIDATE CONSTRAINT users_ended_are_inactive")
    op.execute(
        """
        CREATE TABLE imported_users (
            program_id bigint NOT NULL,
            source text NOT NULL,
            old_id bigint NOT NULL,
            user_id bigint NOT NULL,
            PRIMARY KEY (program_id, source, old_id),
            CONSTRAINT imported_users_once UNIQUE (program_id, user_id)
        )
        """
    )
    op.execute(
        """
        ALTER TABLE imported_users ADD CONSTRAINT imported_users_user
            FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id)
        """
    )
