"""The first schema: programs, users, sessions, codes, referrals.

Foreign keys are statements of their own, after the tables: on Citus they can only be added once the tables are
distributed. `program_id` leads every key, so that no row can point into another program.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE programs (
    id bigserial PRIMARY KEY,
    slug text NOT NULL CONSTRAINT programs_slug_key UNIQUE
        CONSTRAINT programs_slug_shape CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    time_zone text NOT NULL DEFAULT 'UTC',
    code_length integer NOT NULL DEFAULT 10 CONSTRAINT programs_code_length_range CHECK (code_length BETWEEN 8 AND 20),
    longest_code_life_days integer NOT NULL DEFAULT 366
        CONSTRAINT programs_longest_code_life_range CHECK (longest_code_life_days BETWEEN 1 AND 3660),
    referral_list text NOT NULL DEFAULT 'masked'
        CONSTRAINT programs_referral_list_values CHECK (referral_list IN ('masked', 'owner_only')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE users (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    email text NOT NULL,
    email_key text NOT NULL,
    email_identity text NOT NULL,
    username text NOT NULL,
    password_hash text NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    is_staff boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (program_id, id),
    CONSTRAINT users_email_key_unique UNIQUE (program_id, email_key),
    CONSTRAINT users_username_unique UNIQUE (program_id, username)
);

CREATE TABLE sessions (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    user_id bigint NOT NULL,
    token_hash bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (program_id, id),
    CONSTRAINT sessions_token_hash_unique UNIQUE (program_id, token_hash)
);
CREATE INDEX sessions_by_user ON sessions (program_id, user_id);

CREATE TABLE refresh_tokens (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    session_id bigint NOT NULL,
    parent_id bigint,
    token_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (program_id, id),
    CONSTRAINT refresh_tokens_token_hash_unique UNIQUE (program_id, token_hash),
    CONSTRAINT refresh_tokens_one_successor UNIQUE (program_id, parent_id)
);
CREATE UNIQUE INDEX refresh_tokens_one_live ON refresh_tokens (program_id, session_id) WHERE used_at IS NULL;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (program_id, session_id);

CREATE TABLE codes (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    user_id bigint NOT NULL,
    code text NOT NULL CONSTRAINT codes_code_shape CHECK (code ~ '^[0-9A-Z]{1,64}$'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (program_id, id),
    CONSTRAINT codes_code_unique UNIQUE (program_id, code)
);
CREATE UNIQUE INDEX codes_one_live ON codes (program_id, user_id) WHERE revoked_at IS NULL;
CREATE INDEX codes_by_user ON codes (program_id, user_id);

CREATE TABLE referrals (
    program_id bigint NOT NULL,
    id bigserial NOT NULL,
    referrer_id bigint NOT NULL,
    referee_id bigint NOT NULL,
    code_id bigint,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (program_id, id),
    CONSTRAINT referrals_one_referrer UNIQUE (program_id, referee_id),
    CONSTRAINT referrals_not_oneself CHECK (referrer_id <> referee_id)
);
CREATE INDEX referrals_newest_first ON referrals (program_id, referrer_id, id DESC);
CREATE INDEX referrals_by_code ON referrals (program_id, code_id);
"""

FOREIGN_KEYS = """
ALTER TABLE users ADD CONSTRAINT users_program FOREIGN KEY (program_id) REFERENCES programs (id);
ALTER TABLE sessions ADD CONSTRAINT sessions_user
    FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id) ON DELETE CASCADE;
ALTER TABLE refresh_tokens ADD CONSTRAINT refresh_tokens_session
    FOREIGN KEY (program_id, session_id) REFERENCES sessions (program_id, id) ON DELETE CASCADE;
ALTER TABLE codes ADD CONSTRAINT codes_user FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id);
ALTER TABLE referrals ADD CONSTRAINT referrals_referrer
    FOREIGN KEY (program_id, referrer_id) REFERENCES users (program_id, id);
ALTER TABLE referrals ADD CONSTRAINT referrals_referee
    FOREIGN KEY (program_id, referee_id) REFERENCES users (program_id, id);
ALTER TABLE referrals ADD CONSTRAINT referrals_code
    FOREIGN KEY (program_id, code_id) REFERENCES codes (program_id, id);
"""

DEFAULT_PROGRAM = "INSERT INTO programs (slug) VALUES ('default')"


def _run(script: str) -> None:
    # One statement at a time: asyncpg prepares what SQLAlchemy sends, and only one statement can be prepared.
    for statement in filter(None, map(str.strip, script.split(";"))):
        op.execute(statement)


def upgrade() -> None:
    """Make the tables and the default program."""
    _run(TABLES)
    _run(FOREIGN_KEYS)
    _run(DEFAULT_PROGRAM)
