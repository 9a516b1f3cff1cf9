"""A mail server for tests, which takes letters, refuses them, hangs, goes down and comes back."""

import asyncio
import email
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.servers import free_port


class PostOffice:
    """What a mail server got, and what it is to do. As aiosmtpd calls it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.letters: list[EmailMessage] = []
        self.asked: list[str] = []
        """The recipient of every attempt."""
        self.answers: list[str] = []
        """What to say to the next recipients, one after the other; then yes."""
        self.greeting = "250 HELP"
        """What to say to HELO and EHLO."""
        self.sender = "250 OK"
        """What to say to a sender."""
        self.names: list[str] = []
        """What those who came called themselves."""
        self.senders: list[str] = []
        self.word: str = "250 OK"
        """What to say to the next letters."""
        self.hold = asyncio.Event()
        """Letters are answered while this is set."""
        self.hold.set()
        self.farewell = asyncio.Event()
        """QUIT is answered while this is set."""
        self.farewell.set()
        self.pace_s = 0.0
        """How long every answer takes."""
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_HELO(self, server: Any, session: Any, envelope: Any, name: str) -> str:  # noqa: N802
        """Greet."""
        session.host_name = name
        return self.greeting

    async def handle_EHLO(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, name: str, responses: list[str]
    ) -> list[str]:
        """Greet, and tell what is offered."""
        self.names.append(name)
        session.host_name = name
        return [*responses[:-1], self.greeting] if self.greeting.startswith("250") else [self.greeting]

    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Take or refuse a sender."""
        self.senders.append(address)
        if self.sender.startswith("250"):
            envelope.mail_from, envelope.mail_options = address, options
        return self.sender

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take or refuse a recipient."""
        await asyncio.sleep(self.pace_s)
        self.asked.append(address)
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Take a letter."""
        await asyncio.sleep(self.pace_s)
        await self.hold.wait()
        if self.word.startswith("250"):
            letter = email.message_from_bytes(envelope.content, policy=default)
            assert isinstance(letter, EmailMessage)
            self.letters.append(letter)
        return self.word

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Say goodbye."""
        await self.farewell.wait()
        return "221 Bye"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        """Let everybody in but those whose password is `wrong`."""
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password != b"wrong", handled=False)

    @asynccontextmanager
    async def is_open(self, *, implicit_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[None]:
        """Answer on the port for the length of a block."""
        connections: list[SMTP] = []

        def meet() -> SMTP:
            connections.append(SMTP(self, hostname="localhost", **options))
            return connections[-1]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(meet, "127.0.0.1", self.port, ssl=implicit_tls)
        try:
            yield
        finally:
            server.close()
            self.hold.set()
            self.farewell.set()
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.close()
            await server.wait_closed()


def post_office() -> PostOffice:
    """Return one on a free port, not open yet."""
    return PostOffice(free_port())


def certify(folder: Path) -> ssl.SSLContext:
    """Return the TLS of a server at 127.0.0.1; who is to trust it must be told of `folder/cert.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "post office")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, folder / "key.pem")
    return context
