"""base/addresses.py: every parameter of an address is obeyed, ignored and told of, or refused by name."""

import subprocess

import pytest

from invitree.base.addresses import AddressError, as_uri, for_libpq, ignored_parameters, parse_address, with_environment
from invitree.base.settings import SettingsError, read_settings
from invitree.kit.postgres.programs import bundled_programs

# Those of the documentation of PostgreSQL 18, "Parameter Key Words", with values that libpq takes.
_DOCUMENTED = {
    "obeyed": (
        "host=h hostaddr=10.0.0.1 port=5 dbname=d user=u password=p passfile=/f options=-cjit=off connect_timeout=10 "
        "keepalives=0 keepalives_idle=5 keepalives_interval=5 keepalives_count=5 tcp_user_timeout=5 sslmode=require "
        "sslnegotiation=postgres sslcert=/f sslkey=/f sslrootcert=/f sslcrl=/f sslcrldir=/f sslcertmode=disable "
        "sslsni=1 "
        "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.3 channel_binding=prefer gssencmode=disable "
        "target_session_attrs=read-write load_balance_hosts=random client_encoding=auto replication=false "
        "min_protocol_version=3.0"
    ),
    "ignored": (
        "application_name=a fallback_application_name=a krbsrvname=k gsslib=gssapi gssdelegation=1 sslcompression=1 "
        "max_protocol_version=latest"
    ),
    "refused": (
        "require_auth=md5 requirepeer=u requiressl=1 service=s servicefile=/f sslpassword=p sslkeylogfile=/f "
        "scram_client_key=k scram_server_key=k oauth_issuer=i oauth_client_id=i oauth_client_secret=s oauth_scope=s "
        "gssencmode=require sslcertmode=require sslsni=0 channel_binding=require sslrootcert=system&sslmode=require"
    ),
}


@pytest.mark.parametrize("pair", _DOCUMENTED["obeyed"].split())
def test_a_parameter_is_obeyed_without_a_word(pair: str) -> None:
    parse_address(f"postgresql://h/d?{pair}")
    assert ignored_parameters(f"postgresql://h/d?{pair}") == []


@pytest.mark.parametrize("pair", _DOCUMENTED["ignored"].split())
def test_a_parameter_without_which_nothing_is_lost_is_ignored_and_told_of(pair: str) -> None:
    url = f"postgresql://h/d?{pair}"
    assert parse_address(url).parameters == {}
    [note] = ignored_parameters(url)
    assert pair.partition("=")[0] in note


@pytest.mark.parametrize("pair", _DOCUMENTED["refused"].split())
def test_a_parameter_that_cannot_be_obeyed_is_refused_by_name(pair: str) -> None:
    with pytest.raises(AddressError, match=pair.partition("=")[0]):
        parse_address(f"postgresql://h/d?{pair}")


def test_channel_binding_is_asked_for_in_vain_only_where_the_certificate_is_verified() -> None:
    for sslmode in ("disable", "allow", "prefer", "require", "verify-ca"):
        with pytest.raises(AddressError, match="sslmode=verify-full"):
            parse_address(f"postgresql://h/d?channel_binding=require&sslmode={sslmode}")
    with pytest.raises(AddressError, match="sslmode=verify-full"):
        parse_address("postgresql:///d?host=/run&channel_binding=require&sslmode=verify-full")
    url = "postgresql://h/d?channel_binding=require&sslmode=verify-full&sslrootcert=system"
    assert for_libpq(parse_address(url))["channel_binding"] == "require"  # pg_dump can
    [note] = ignored_parameters(url)
    assert "channel_binding" in note


def test_the_authorities_of_the_system_mean_that_the_name_is_verified_too() -> None:
    assert parse_address("postgresql://h/d?sslrootcert=system").sslmode == "verify-full"
    assert parse_address("postgresql://h/d?ssl=true").sslmode == "require"
    assert parse_address("postgresql://h/d").sslmode == "prefer"


@pytest.mark.parametrize(
    ("url", "places", "password"),
    [
        ("postgresql://u:p%40%2F%23@h/d", [("h", 5432)], "p@/#"),
        ("postgresql://u:a#b?c:d@h/d", [("h", 5432)], "a#b?c:d"),  # libpq takes these as they are
        ("postgres://u@h1,h2:2,[::1]:3/d", [("h1", 5432), ("h2", 2), ("::1", 3)], None),
        ("postgresql://u:p@/d?host=h1,h2&port=7", [("h1", 7), ("h2", 7)], "p"),
        ("postgresql://u@%2Frun%2Fpg/d", [("/run/pg", 5432)], None),
        ("postgresql://u@name/d?hostaddr=10.0.0.1", [("10.0.0.1", 5432)], None),
        ("postgresql://u@h/d?password=p%26", [("h", 5432)], "p&"),
    ],
)
def test_an_address_is_split_as_libpq_splits_it(url: str, places: list[tuple[str, int]], password: str | None) -> None:
    found = parse_address(url)
    assert (list(found.places), found.user, found.dbname, found.password) == (places, "u", "d", password)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:canary/c@h/d", "write / as %2F"),
        ("postgresql://u:12/canary@h/d", "write / as %2F"),
        ("postgresql://u:canary?c/c@h/d", "write / as %2F"),
        ("postgresql://u:canary@c@h/d", "write @ as %40"),
        ("postgresql://u:canary%zz@h/d", "write % as %25"),
        ("postgresql://u:canary%@h/d", "write % as %25"),
        ("postgresql://u:canary%ff@h/d", "% itself is %25"),
        ("postgresql://u@h/d?password=x&canary=y@", "an & in a value as %26"),
        ("postgresql://u@h/d?password=x&canary", "an & in a value as %26"),
        ("postgresql://u@h/d?sslmode=canary", "sslmode has a value"),
        ("postgresql://u@h/d?port=canary", "port"),
        ("postgresql://h:canary/d", "port"),
        ("postgresql://h:0/d", "port"),
        ("postgresql://h1,h2:1/d?port=1,2,3", "port"),
        ("postgresql://::1/d", "[ ]"),
        ("postgresql+asyncpg://canary@h/d", "postgresql://user:password@host:5432/database"),
        ("host=canary", "postgresql://user:password@host:5432/database"),
        ("postgresql://u:canary\n@h/d", "postgresql://user:password@host:5432/database"),
        ("postgresql://h/d?sslmod=require", "there is no parameter sslmod"),
    ],
)
def test_errors_about_a_database_url_do_not_quote_it(url: str, told: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({"INVITREE_DATABASE_URL": url})
    assert str(refusal.value).startswith("INVITREE_DATABASE_URL cannot be used: ")
    assert told in str(refusal.value)
    assert "canary" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_variables_of_proof_count_where_the_address_says_nothing_and_those_of_place_never() -> None:
    environ = {"PGSSLMODE": "verify-full", "PGPASSWORD": "p &@", "PGHOST": "other", "PGPORT": "1", "PGOPTIONS": "-x"}
    found = parse_address(with_environment("postgresql://u@h/d?sslrootcert=system", environ))
    assert (found.sslmode, found.password, found.places) == ("verify-full", "p &@", (("h", 5432),))
    assert found.server_settings == {}
    found = parse_address(with_environment("postgresql://u:own@h/d?sslmode=disable", environ))
    assert (found.sslmode, found.password) == ("disable", "own")
    with pytest.raises(AddressError, match="require_auth"):
        with_environment("postgresql://u@h/d", {"PGREQUIREAUTH": "scram-sha-256"})
    assert with_environment("postgresql://u@h/d", {"PGSSLMODE": ""}) == "postgresql://u@h/d"


def test_settings_of_the_server_are_given_to_libpq_as_options() -> None:
    url = "postgresql://u:p%40@h/d?search_path=app,%20public&options=-cjit%3Doff&sslmode=disable"
    assert for_libpq(parse_address(url))["options"] == r"-cjit=off -c search_path=app,\ public"
    uri = as_uri(url)
    again = parse_address(uri)
    assert (again.password, again.sslmode, again.places) == ("p@", "disable", (("h", 5432),))
    assert as_uri(uri) == uri


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:1/d?search_path=app&target_session_attrs=primary&keepalives_idle=5&gssencmode=disable",
        "postgresql://u@127.0.0.1:1,127.0.0.1:1/d?connect_timeout=5&tcp_user_timeout=5&load_balance_hosts=random",
    ],
)
def test_psql_takes_what_db_url_prints(url: str) -> None:
    psql = [str(bundled_programs() / "psql"), as_uri(url)]
    said = subprocess.run(psql, capture_output=True, text=True, check=False).stderr
    assert "Connection refused" in said
