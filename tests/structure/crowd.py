"""A database as full as one in production, so that PostgreSQL plans as it does there.

Ids are what they are by counting, so that a test can name any row: user 12,001 has the session 12,001.
"""

from typing import Any

PEOPLE = 24_000
HOME, BUSY, ANN = 1, 1, 12_001
"""A program with three quarters of the people, somebody in it with thousands of referrals, and anybody else in it."""

_FILLING = f"""
INSERT INTO programs (slug) VALUES ('second'), ('third');

INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_active, deleted_at)
SELECT CASE WHEN n <= {PEOPLE} * 3 / 4 THEN 1 WHEN n <= {PEOPLE} - 50 THEN 2 ELSE 3 END, email, email, email,
       'user' || n, CASE n % 100 WHEN 0 THEN 'pbkdf2_sha256$' ELSE '$argon2id$' END || n, n % 50 <> 3,
       CASE WHEN n % 50 = 3 THEN now() END
FROM (SELECT n, 'user' || n || '@example.com' AS email FROM generate_series(1, {PEOPLE}) n) numbered ORDER BY n;

INSERT INTO sessions (program_id, user_id, token_hash, created_at, last_seen_at)
SELECT program_id, id, int8send(id), now() - interval '40 days', now() - interval '1 day' FROM users ORDER BY id;
INSERT INTO sessions (program_id, user_id, created_at)
SELECT program_id, id, now() - interval '40 days' FROM users ORDER BY id;
INSERT INTO sessions (program_id, user_id, token_hash) SELECT 1, {BUSY}, int8send(-n) FROM generate_series(1, 20) n;

INSERT INTO refresh_tokens (program_id, session_id, token_hash, created_at, expires_at, used_at)
SELECT program_id, id + {PEOPLE}, int8send(id), now() - interval '40 days',
       now() + (id % 400 - 2) * interval '2 hours', now() - interval '35 days'
FROM users ORDER BY id;
INSERT INTO refresh_tokens (program_id, session_id, parent_id, token_hash, expires_at)
SELECT program_id, session_id, id, int8send(-id), expires_at + interval '3 hours' FROM refresh_tokens ORDER BY id;

INSERT INTO codes (program_id, user_id, code, created_at, expires_at, revoked_at)
SELECT program_id, id, 'OLD' || id, now() - interval '60 days', now(), now() - interval '30 days'
FROM users ORDER BY id;
INSERT INTO codes (program_id, user_id, code, created_at, expires_at)
SELECT program_id, id, 'NEW' || id, now() - interval '30 days', now() + id % 50 * interval '1 day'
FROM users WHERE id % 5 <> 4 ORDER BY id;

INSERT INTO referrals (program_id, referrer_id, referee_id, code_id, created_at)
SELECT u.program_id, u.referrer_id, u.id, c.id, now() - interval '40 days'
FROM (SELECT id, program_id, CASE WHEN id <= 3000 THEN {BUSY} ELSE id / 3 END AS referrer_id FROM users
      WHERE program_id = 1 AND id > {BUSY}) u
JOIN codes c ON c.program_id = u.program_id AND c.code = 'OLD' || u.referrer_id ORDER BY u.id;

INSERT INTO one_time_tokens (program_id, user_id, kind, token_hash, new_email, expires_at, used_at)
SELECT program_id, id, CASE id % 4 WHEN 0 THEN 'email_change' WHEN 1 THEN 'activation' ELSE 'password_reset' END,
       int8send(id), CASE id % 4 WHEN 0 THEN 'new' || id || '@example.com' END, now() + interval '1 hour',
       CASE id % 3 WHEN 0 THEN now() END
FROM users ORDER BY id;

INSERT INTO audit (program_id, user_id, actor, kind, created_at)
SELECT program_id, id, 'self', kind, now() - interval '30 days'
FROM users, unnest('{{account.created,login.succeeded,code.created}}'::text[]) kind ORDER BY id;
INSERT INTO audit (program_id, user_id, actor, kind)
SELECT 1, {BUSY}, 'self', 'code.created' FROM generate_series(1, 3000);

INSERT INTO idempotency_keys (program_id, key_hash, user_id, fingerprint, status, body, created_at)
SELECT program_id, int8send(id), id, '', 201, '{{}}', now() - id * interval '1 minute' FROM users;

INSERT INTO imported_users (program_id, source, old_id, user_id)
SELECT program_id, 'seed', id, id FROM users WHERE id % 2 = 0;

INSERT INTO throttles (program_id, scope, key, clear_at)
SELECT 1 + n % 3, CASE n % 2 WHEN 0 THEN 'login' ELSE 'lookup' END, decode(md5(n::text), 'hex'),
       now() + (n % 400 - 1) * interval '1 minute'
FROM generate_series(1, {PEOPLE}) n;

INSERT INTO pgqueuer (priority, entrypoint, payload, headers, status)
SELECT 0, 'send_mail', convert_to(jsonb_build_object('program_id', 1, 'user_id', n)::text, 'UTF8'), 'null',
       CASE n % 20 WHEN 0 THEN 'failed' ELSE 'queued' END::pgqueuer_status
FROM generate_series(1, {PEOPLE} / 2) n;
INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, created, traceback)
SELECT n, 'queued', 'send_mail', 0, now() - n % 168 * interval '1 hour',
       CASE n % 20 WHEN 0 THEN '{{"exception_message": "550 no"}}'::jsonb END
FROM generate_series(1, {PEOPLE}) n;
INSERT INTO pgqueuer_statistics (priority, count, status, entrypoint, created)
SELECT 0, 1, 'successful', 'send_mail', date_trunc('sec', now() - n * interval '1 minute')
FROM generate_series(1, {PEOPLE} / 4) n;
"""


async def fill(db: Any) -> None:
    """Fill an empty migrated database, and have PostgreSQL learn what is in it."""
    await db.execute(_FILLING)
    # As autovacuum does, which passes over tables that nothing was written to: those of the months to come.
    filled = await db.fetchval(
        "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0"
    )
    await db.execute(f"VACUUM ANALYZE {filled}")
