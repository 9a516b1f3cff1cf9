"""Every migration's SQL as squawk sees it, a linter that knows which statements keep a running service out."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory

from invitree import migrations

# Rules that are not ours.
EXCLUDED = {
    "prefer-identity": "Citus refuses to distribute tables with identity columns",
    "prefer-bigint-over-int": "integers are for settings with a CHECK on their range; ids are bigint",
}
# What a rule finds and is right all the same, where it is.
ACCEPTED = {
    ("0002", "disallowed-unique-constraint"): "programs has a row a tenant, and host no value yet",
    ("0002", "ban-drop-constraint"): "the same statement adds it: so it can be repeated",
    ("0002", "prefer-robust-stmts"): "a default can be set again",
    ("0003", "prefer-robust-stmts"): "a constraint can be validated again",
    ("0009", "renaming-table"): "a view has the old name",
    ("0009", "renaming-object"): "no statement names a constraint of this table, an index or a sequence",
    ("0009", "ban-drop-constraint"): "the primary key, in the statement that adds the next one",
    ("0009", "ban-drop-function"): "it is the one of the triggers",
    ("0009", "prefer-robust-stmts"): "a constraint can be validated again",
}
SQUAWK = Path(sys.executable).parent / "squawk"
_OLDEST_POSTGRES = "15"


def scripts() -> list[Script]:
    """Return every migration."""
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    return list(ScriptDirectory.from_config(config).walk_revisions())


@pytest.fixture(params=scripts(), ids=lambda script: script.revision)
def migration(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A revision and its SQL, but for that of PgQueuer's own tables."""
    script: Script = request.param
    monkeypatch.setattr(script.module, "_install_queue", lambda: None, raising=False)
    written = io.StringIO()
    options = {"as_sql": True, "output_buffer": written, "transaction_per_migration": True}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    with Operations.context(context), context.begin_transaction(_per_migration=True):
        script.module.upgrade()
    return script.revision, written.getvalue()


def test_a_migration_keeps_nobody_out(migration: tuple[str, str], tmp_path: Path) -> None:
    revision, sql = migration
    settings = [f"SET {name} = '{value}';\n" for name, value in migrations.SESSION.items() if name.endswith("timeout")]
    (tmp_path / "migration.sql").write_text("".join(settings) + sql, encoding="utf-8")
    flags = ["--reporter=json", f"--pg-version={_OLDEST_POSTGRES}", f"--exclude={','.join(EXCLUDED)}"]
    done = subprocess.run([SQUAWK, *flags, "migration.sql"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    found = {(it["rule_name"], f"line {it['line']}: {it['message']}") for it in json.loads(done.stdout)}
    accepted = {rule for where, rule in ACCEPTED if where == revision}
    assert {it for it in found if it[0] not in accepted} == set()
    assert accepted == {rule for rule, _ in found}, "what is not found any more need not be accepted"


def test_statements_outside_the_transaction_come_first(migration: tuple[str, str]) -> None:
    *before, _ = re.findall(r"^BEGIN;(.*?)^COMMIT;", migration[1], flags=re.DOTALL | re.MULTILINE)
    assert [text.strip() for text in before] == [""] * len(before)
