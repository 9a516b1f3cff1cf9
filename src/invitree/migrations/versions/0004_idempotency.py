"""What was answered to requests with an Idempotency-Key, for a day."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of answers."""
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            program_id bigint NOT NULL,
            key_hash bytea NOT NULL,
            fingerprint bytea NOT NULL,
            user_id bigint,
            status bigint NOT NULL,
            body bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (program_id, key_hash)
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_by_user ON idempotency_keys (program_id, user_id)")
    op.execute("CREATE INDEX idempotency_keys_by_age ON idempotency_keys (program_id, created_at)")
    op.execute(
        """
        ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_program
            FOREIGN KEY (program_id) REFERENCES programs (id)
        """
    )
    op.execute(
        """
        ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_user
            FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id)
        """
    )
