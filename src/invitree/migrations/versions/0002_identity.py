"""Identity: one-time tokens, an audit of security events, throttles, a queue of jobs, and what users and sessions need.

`throttles` is UNLOGGED: it is written by every guarded request, and after a crash everybody begins anew.
"""

from typing import Any

from alembic import op

from invitree.migrations.gently import build_index, one_by_one, unhurried

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A default that is the same for all rows that are there changes none of them; one that is asked for each row would
# rewrite the table, with everybody locked out. The next migration looks whether the old users keep to the new rule.
COLUMNS = """
ALTER TABLE programs
    ADD COLUMN IF NOT EXISTS host text CONSTRAINT programs_host_key UNIQUE
        CONSTRAINT programs_host_shape CHECK (host ~ '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$'),
    ADD COLUMN IF NOT EXISTS activation text NOT NULL DEFAULT 'off'
        CONSTRAINT programs_activation_values CHECK (activation IN ('off', 'required'));
ALTER TABLE users
    ADD COLUMN IF NOT EXISTS confirmed_at timestamptz,
    ADD COLUMN IF NOT EXISTS deactivated_at timestamptz,
    ADD COLUMN IF NOT EXISTS deleted_at timestamptz,
    DROP CONSTRAINT IF EXISTS users_ended_are_inactive,
    ADD CONSTRAINT users_ended_are_inactive
        CHECK (NOT is_active OR (deactivated_at IS NULL AND deleted_at IS NULL)) NOT VALID;
ALTER TABLE sessions
    ADD COLUMN IF NOT EXISTS device text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS ip_prefix text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS last_seen_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE sessions ALTER COLUMN last_seen_at SET DEFAULT clock_timestamp();
"""

KEPT_OUT = "UPDATE users SET deactivated_at = clock_timestamp() WHERE NOT is_active AND deactivated_at IS NULL"

TABLES = """
CREATE TABLE one_time_tokens (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    user_id bigint NOT NULL,
    kind text NOT NULL CONSTRAINT one_time_tokens_kinds
        CHECK (kind IN ('activation', 'password_reset', 'username_reset', 'email_change')),
    token_hash bytea NOT NULL,
    new_email text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (program_id, id),
    CONSTRAINT one_time_tokens_token_hash_unique UNIQUE (program_id, token_hash),
    CONSTRAINT one_time_tokens_new_email_of_change CHECK ((kind = 'email_change') = (new_email IS NOT NULL))
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (program_id, user_id);

CREATE TABLE events (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    user_id bigint,
    actor text NOT NULL CONSTRAINT events_actors CHECK (actor IN ('self', 'staff', 'operator', 'unknown')),
    actor_id bigint,
    kind text NOT NULL CONSTRAINT events_kind_shape CHECK (kind ~ '^[a-z_]+[.][a-z_]+$'),
    ip_prefix text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (program_id, id)
);
CREATE INDEX events_by_user ON events (program_id, user_id, id DESC);

CREATE UNLOGGED TABLE throttles (
    program_id bigint NOT NULL,
    scope text NOT NULL,
    key bytea NOT NULL,
    clear_at timestamptz NOT NULL,
    PRIMARY KEY (program_id, scope, key)
);
CREATE INDEX throttles_by_end ON throttles (program_id, clear_at);
"""

# `events.user_id` and `throttles.program_id` have no foreign key. A log outlives what it tells of, and a check against
# users would make a failed login for a known name take longer than one for an unknown name; an unlogged table loses its
# rows in a crash, so nothing may depend on them.
FOREIGN_KEYS = """
ALTER TABLE one_time_tokens ADD CONSTRAINT one_time_tokens_user
    FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id) ON DELETE CASCADE;
ALTER TABLE events ADD CONSTRAINT events_program FOREIGN KEY (program_id) REFERENCES programs (id);
"""

APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_to_change_events() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'events are append-only';
    END $$
    """,
    """
    CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_events()
    """,
    """
    CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_events()
    """,
)


def _run(script: str) -> None:
    # One statement at a time: asyncpg prepares what SQLAlchemy sends, and only one statement can be prepared.
    for statement in filter(None, map(str.strip, script.split(";"))):
        op.execute(statement)


def _install_queue() -> None:
    """Make PgQueuer's own tables, as the installed version of it wants them."""
    from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
    from pgqueuer.domain.settings import DBSettings

    # Under its usual names, whatever variables such as QUEUE_TABLE say, which it would take from the environment.
    script = QueryBuilderEnvironment(DBSettings.model_construct()).build_install_query(create_schema=False)
    connection: Any = op.get_bind().connection.dbapi_connection
    # Past SQLAlchemy, which would prepare it; in the same transaction all the same.
    connection.run_async(lambda asyncpg_connection: asyncpg_connection.execute(script))


def upgrade() -> None:
    """Add the columns and tables, and the queue."""
    with one_by_one():
        _run(COLUMNS)
    with unhurried():
        op.execute(KEPT_OUT)
    build_index("users_with_foreign_hashes", on="users (program_id, id DESC) WHERE password_hash LIKE 'pbkdf2%'")
    build_index("refresh_tokens_by_end", on="refresh_tokens (program_id, expires_at)")
    _run(TABLES)
    for statement in APPEND_ONLY:
        op.execute(statement)
    _install_queue()
    _run(FOREIGN_KEYS)
