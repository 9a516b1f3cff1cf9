"""A PostgreSQL that the machine has, with all that the bundled one lacks: TCP, passwords, TLS."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.servers import free_port
from tests.kit.postmasters import AS_NOBODY

PASSWORD = "a p@ss/word: 100% 'ёж'"
_INSTALLED = [folder for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin")) if int(folder.parent.name) >= 15]
needs_installed = pytest.mark.skipif(not _INSTALLED, reason="no PostgreSQL 15 or newer in /usr/lib/postgresql")


@contextmanager
def installed_postgres(*, tls: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a superuser without a path, and a folder.

    With `tls` the server lets nobody in without it. The folder has `ca.crt` of its authority, `other.crt`
    of another one, and a list `ca.crl` on which the server's certificate is.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    prefix = AS_NOBODY if os.geteuid() == 0 else []
    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    (folder / "hba").write_text(f"host{'ssl' if tls else ''} all all all scram-sha-256\n")
    _write_certificates(folder)
    if prefix:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
    programs, port = _INSTALLED[0], free_port()
    flags = ["--username=boss", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    initdb = [str(programs / "initdb"), "-D", str(folder / "data"), *flags, f"--pwfile={folder / 'password'}"]
    subprocess.run([*prefix, *initdb], check=True, capture_output=True, cwd="/")
    server = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    server += ["-c", f"hba_file={folder / 'hba'}"]
    if tls:
        server += [
            "-c",
            "ssl=on",
            "-c",
            f"ssl_cert_file={folder / 'own.crt'}",
            "-c",
            f"ssl_key_file={folder / 'own.key'}",
        ]
    with (folder / "log").open("wb") as log, subprocess.Popen([*prefix, *server], stderr=log, cwd="/") as running:
        try:
            _await_ready(folder / "data" / "postmaster.pid")
            yield f"postgresql://boss:{quote(PASSWORD, safe='')}@localhost:{port}", folder
        finally:
            running.send_signal(signal.SIGINT)
    shutil.rmtree(folder)


def _await_ready(pid_file: Path) -> None:
    for _ in range(1200):
        if pid_file.exists() and "ready" in pid_file.read_text():
            return
        time.sleep(0.05)
    raise AssertionError("the installed PostgreSQL is not ready")


def _write_certificates(folder: Path) -> None:
    authority, other, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    now = datetime.now(UTC)
    certificate = _certificate("localhost", own, actor=authority)
    revoked = x509.RevokedCertificateBuilder(certificate.serial_number, now).build()
    revocations = (
        x509.CertificateRevocationListBuilder(_name("authority"), now - timedelta(days=1), now + timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(authority, hashes.SHA256())
    )
    for name, made in (
        ("ca.crt", _certificate("authority", authority, actor=authority)),
        ("other.crt", _certificate("authority", other, actor=other)),
        ("own.crt", certificate),
        ("ca.crl", revocations),
    ):
        (folder / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "own.key").write_bytes(own.private_bytes(*how))
    (folder / "own.key").chmod(0o600)


def _certificate(name: str, key: ec.EllipticCurvePrivateKey, *, actor: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=key is actor, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(actor, hashes.SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
