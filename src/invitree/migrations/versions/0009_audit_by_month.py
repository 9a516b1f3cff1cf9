"""The security log by month, as `audit`, so that what is old is dropped and not deleted; and privileges, not triggers.

The table `events` becomes the oldest partition, which nobody reads to see it attached: a constraint that was validated
beside the service says what is in it. For the version before, `events` is a view.
"""

from alembic import op

from invitree.migrations.gently import build_index, one_by_one, unhurried

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Until when the rows there are go, those that are written meanwhile too: a month to spare, and more after a clock that
# was ahead. A constraint tells the next step, and an attempt after this one, which moment was chosen.
BOUND = """
DO $$
DECLARE
    latest CONSTANT timestamptz := greatest(now(), (SELECT max(created_at) FROM events));
BEGIN
    SET LOCAL timezone = 'UTC';
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'events_until') THEN
        EXECUTE format('ALTER TABLE events ADD CONSTRAINT events_until CHECK (created_at < %L) NOT VALID',
                       date_trunc('month', latest) + interval '2 months');
    END IF;
END $$
"""
VALIDATED = "ALTER TABLE events VALIDATE CONSTRAINT events_until"

# What is attached must have the constraints of what it is attached to, by name.
AS_PARTITION = """
LOCK TABLE programs IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
DROP TRIGGER events_are_append_only ON events;
DROP TRIGGER events_are_not_truncated ON events;
DROP FUNCTION refuse_to_change_events();
ALTER TABLE events DROP CONSTRAINT events_pkey,
    ADD CONSTRAINT audit_oldest_pkey PRIMARY KEY USING INDEX audit_oldest_key;
ALTER TABLE events RENAME CONSTRAINT events_actors TO audit_actors;
ALTER TABLE events RENAME CONSTRAINT events_kind_shape TO audit_kind_shape;
ALTER TABLE events RENAME CONSTRAINT events_program TO audit_program;
ALTER SEQUENCE events_id_seq RENAME TO audit_id_seq;
ALTER INDEX events_by_user RENAME TO audit_oldest_by_user;
ALTER INDEX events_by_network RENAME TO audit_oldest_by_network;
ALTER TABLE events RENAME TO audit_oldest
"""
PARENT = """
CREATE TABLE audit (
    program_id bigint NOT NULL,
    id bigint NOT NULL DEFAULT nextval('audit_id_seq'),
    user_id bigint,
    actor text NOT NULL CONSTRAINT audit_actors CHECK (actor IN ('self', 'staff', 'operator', 'unknown')),
    actor_id bigint,
    kind text NOT NULL CONSTRAINT audit_kind_shape CHECK (kind ~ '^[a-z_]+[.][a-z_]+$'),
    ip_prefix text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (program_id, id, created_at),
    CONSTRAINT audit_program FOREIGN KEY (program_id) REFERENCES programs (id)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE audit_id_seq OWNED BY audit.id;
CREATE INDEX audit_by_user ON audit (program_id, user_id, id DESC);
CREATE INDEX audit_by_network ON audit (program_id, user_id, ip_prefix)
    WHERE kind IN ('account.created', 'login.succeeded')
"""
# The worker makes the months after these. A privilege is taken from the owner too: it has to give it back to itself
# before it can change what happened.
MONTHS = """
DO $$
DECLARE
    of_bound CONSTANT text := (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'events_until');
    first CONSTANT timestamptz := substring(of_bound FROM '''([^'']+)''');
    month timestamptz;
    name text;
BEGIN
    SET LOCAL timezone = 'UTC';
    EXECUTE format('ALTER TABLE audit ATTACH PARTITION audit_oldest FOR VALUES FROM (MINVALUE) TO (%L)', first);
    FOR month IN SELECT generate_series(first, first + interval '4 months', interval '1 month') LOOP
        name := to_char(month, '"audit"_YYYY_MM');
        EXECUTE format('CREATE TABLE %I PARTITION OF audit FOR VALUES FROM (%L) TO (%L)',
                       name, month, month + interval '1 month');
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I FROM CURRENT_USER', name);
    END LOOP;
    ALTER TABLE audit_oldest DROP CONSTRAINT events_until;
    REVOKE UPDATE, DELETE, TRUNCATE ON audit, audit_oldest FROM CURRENT_USER;
END $$
"""
FOR_THE_VERSION_BEFORE = "CREATE VIEW events AS SELECT * FROM audit"


def upgrade() -> None:
    """Turn the table into a partition of a new one."""
    build_index("audit_oldest_key", on="events (program_id, id, created_at)", unique=True)
    with one_by_one():
        op.execute("SET statement_timeout = '6h'")  # it reads the table, and only then waits for it
        op.execute(BOUND)
        op.execute("RESET statement_timeout")
    with unhurried():
        op.execute(VALIDATED)
    for script in (AS_PARTITION, PARENT):
        for statement in script.split(";"):
            op.execute(statement)
    op.execute(MONTHS)
    op.execute(FOR_THE_VERSION_BEFORE)
