"""Real receivers of alerts on loopback: an SMTP server, with TLS or without, and an HTTP server. Both keep what came."""

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOOPBACK = "127.0.0.1"


@dataclass
class SmtpReceiver:
    """Mails that were accepted.

    Attributes:
        down: every mail is answered with a temporary failure.
        refused: addresses that are not taken.
        tls: the certificate for STARTTLS; None for none.
    """

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    down: bool = False
    refused: set[str] = field(default_factory=set)
    tls: ssl.SSLContext | None = None
    connections: int = 0
    encrypted: int = 0
    logins: list[str] = field(default_factory=list)


@dataclass
class WebReceiver:
    """Alerts that were accepted; `status` is what every POST is answered with."""

    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    requests: int = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/hook"

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for body in self.bodies for alert in body["alerts"]]


@contextmanager
def smtp_server(tls: ssl.SSLContext | None = None) -> Iterator[SmtpReceiver]:
    """As much of RFC 5321 and RFC 3207 as smtplib asks for."""
    found = SmtpReceiver(tls=tls)

    class Session(socketserver.StreamRequestHandler):
        timeout = 20

        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")
            self.wfile.flush()

        def handle(self) -> None:
            found.connections += 1
            self.say("220 loopback")
            while line := self.rfile.readline():
                word, _, rest = line.decode().strip().partition(" ")
                if not self.answer(word.upper(), rest):
                    return

        def answer(self, word: str, rest: str) -> bool:
            if word == "EHLO":
                offered = ["STARTTLS"] if found.tls and not isinstance(self.request, ssl.SSLSocket) else []
                lines = ["loopback", *offered, "AUTH PLAIN"]
                for number, name in enumerate(lines):
                    self.say(f"250{'-' if number < len(lines) - 1 else ' '}{name}")
            elif word == "STARTTLS" and found.tls:
                self.say("220 go")
                self.request = found.tls.wrap_socket(self.request, server_side=True)
                found.encrypted += 1
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb")
            elif word == "AUTH":
                found.logins.append(rest)
                self.say("235 welcome")
            elif word == "RCPT" and any(address in rest for address in found.refused):
                self.say("550 nobody of that name")
            elif word == "DATA":
                self.take()
            elif word == "QUIT":
                self.say("221 bye")
                return False
            else:
                self.say("250 well")
            return True

        def take(self) -> None:
            if found.down:
                self.say("451 try again later")
                return
            self.say("354 go on")
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b"."))
            found.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))
            self.say("250 taken")

    with socketserver.ThreadingTCPServer((LOOPBACK, 0), Session) as server:
        found.port = server.server_address[1]
        with _running(server):
            yield found


@contextmanager
def web_server() -> Iterator[WebReceiver]:
    """Takes POSTs of JSON."""
    found = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.requests += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if found.status < 300:
                found.bodies.append(body)
            self.send_response(found.status)
            self.send_header("Location", found.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            found.requests += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        found.port = server.server_port
        with _running(server):
            yield found


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)
