"""Where notices go: a log in the home, mailboxes by SMTP, and a webhook by HTTP. Each takes all that is new at once."""

import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote

from my_platform.errors import PlatformError
from my_platform.operations.alerts.conditions import Alert, Severity
from my_platform.operations.alerts.said import Notice, iso
from my_platform.settings import Settings
from my_platform.storage.appended import AppendedLines

LOG = "log"
WEBHOOK = "webhook"
_MOST_IN_A_MAIL = 50
_WORDS = {"began": "", "still": "still: ", "ended": "over: ", "happened": ""}


class NotDelivered(Exception):
    """A receiver does not have what was sent to it; the text says why."""


class Channel(Protocol):
    """One receiver."""

    @property
    def name(self) -> str: ...

    @property
    def least(self) -> Severity:
        """The least severe alert that it wants."""
        ...

    def send(self, notices: Sequence[Notice]) -> None:
        """Hand notices over, all of them or none.

        Raises:
            NotDelivered: the receiver did not take them.
        """
        ...


@dataclass(frozen=True)
class LogFile:
    """A file of JSON lines that is only ever appended to. A notice that stands in it is not written again."""

    path: Path
    name: str = LOG
    least: Severity = "info"

    def send(self, notices: Sequence[Notice]) -> None:
        file = AppendedLines(self.path)
        try:
            written = {line.get("id") for line in file.read()}
            for notice in notices:
                if notice.id not in written:
                    file.append(notice.as_json(), unless=lambda _: False)
        except (OSError, PlatformError) as error:
            raise NotDelivered(str(error)) from error


@dataclass(frozen=True)
class Mailbox:
    """One address, by SMTP.

    Attributes:
        tls: ``off``, ``starttls`` (a connection that becomes one), or ``tls`` from its beginning.
    """

    address: str
    sender: str
    host: str
    port: int
    tls: str
    user: str
    password: str
    timeout_s: float
    least: Severity
    ui_url: str

    @property
    def name(self) -> str:
        return f"mail {self.address}"

    def send(self, notices: Sequence[Notice]) -> None:
        try:
            message = mail(notices, self.sender, self.address, self.ui_url)
            context = ssl.create_default_context()
            with (
                smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
                if self.tls == "tls"
                else smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)
            ) as server:
                if self.tls == "starttls":
                    server.starttls(context=context)
                if self.user:
                    server.login(self.user, self.password)
                server.send_message(message)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotDelivered(f"{self.host}:{self.port}: {error or type(error).__name__}") from error


@dataclass(frozen=True)
class Webhook:
    """An address that takes a POST of JSON: ``{"alerts": [...]}``."""

    url: str
    timeout_s: float
    least: Severity
    ui_url: str
    name: str = WEBHOOK

    def send(self, notices: Sequence[Notice]) -> None:
        alerts = [{**notice.as_json(), "link": link(notice.alert, self.ui_url)} for notice in notices]
        request = urllib.request.Request(
            self.url,
            json.dumps({"alerts": alerts}).encode(),
            {"Content-Type": "application/json", "User-Agent": "my-platform"},
        )
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout_s):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise NotDelivered(f"it answered {error.code} {error.reason}") from error
        except http.client.HTTPException as error:
            # It may quote the address, which is a secret.
            raise NotDelivered(type(error).__name__) from None
        except OSError as error:
            raise NotDelivered(str(getattr(error, "reason", error)) or type(error).__name__) from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would become a GET, and its answer would look like a delivery."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def channels_of(settings: Settings) -> list[Channel]:
    """The receivers that the settings name, the log first.

    Raises:
        PlatformError: mail is to be sent and no server is named.
    """
    timeout_s, least, ui_url = settings.alert_timeout_s, settings.alert_least, ui_of(settings)
    found: list[Channel] = [LogFile(settings.alerts / "alerts.jsonl")]
    if settings.alert_mail_to and settings.alert_smtp_host is None:
        raise PlatformError(
            f"MY_PLATFORM_ALERT_MAIL_TO is {', '.join(settings.alert_mail_to)}, and no server sends mail: name it in "
            "MY_PLATFORM_ALERT_SMTP_HOST"
        )
    password = settings.alert_smtp_password
    found += [
        Mailbox(
            address,
            settings.alert_mail_from or address,
            settings.alert_smtp_host or "",
            settings.alert_smtp_port,
            settings.alert_smtp_tls,
            settings.alert_smtp_user,
            password.get_secret_value() if password else "",
            timeout_s,
            least,
            ui_url,
        )
        for address in settings.alert_mail_to
    ]
    if settings.alert_webhook_url is not None:
        found.append(Webhook(settings.alert_webhook_url.get_secret_value(), timeout_s, least, ui_url))
    return found


def ui_of(settings: Settings) -> str:
    """Where people reach the UI."""
    return (settings.ui_url or f"http://127.0.0.1:{settings.port}").rstrip("/")


def link(alert: Alert, ui_url: str) -> str:
    """Where the UI shows what an alert is about; its first page where that is nowhere in particular."""
    if alert.run_id:
        return f"{ui_url}/runs/{quote(alert.run_id)}"
    if not alert.asset:
        return ui_url
    partition = f"&partition={quote(alert.partition)}" if alert.partition else ""
    return f"{ui_url}/assets/{quote(alert.asset)}?view=partitions{partition}"


def mail(notices: Sequence[Notice], sender: str, address: str, ui_url: str) -> EmailMessage:
    """A plain message that tells of notices, the worst first."""
    order = {"error": 0, "warning": 1, "info": 2}
    worst_first = sorted(notices, key=lambda notice: (notice.what == "ended", order[notice.alert.severity]))
    message = EmailMessage()
    more = f" (and {len(notices) - 1} more)" if len(notices) > 1 else ""
    subject = f"[my_platform] {title(worst_first[0])}"
    message["Subject"] = " ".join(subject.split())[:150] + more
    message["From"], message["To"] = sender, address
    message["Date"] = formatdate(notices[-1].at_s)
    # Made of what it says, so that a mail that was sent twice can be told.
    message["Message-ID"] = f"<{'.'.join(n.id for n in notices[:4])}.{len(notices)}@my-platform.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    parts = [_paragraph(notice, ui_url) for notice in worst_first[:_MOST_IN_A_MAIL]]
    if len(notices) > _MOST_IN_A_MAIL:
        parts.append(f"And {len(notices) - _MOST_IN_A_MAIL} more: my-platform alerts")
    message.set_content("\n\n".join(parts) + "\n")
    return message


def title(notice: Notice) -> str:
    """A notice in a line."""
    # The name of a file may be no text.
    said = notice.alert.said.encode(errors="backslashreplace").decode()
    return f"{_WORDS[notice.what]}{notice.alert.severity}: {said}"


def _paragraph(notice: Notice, ui_url: str) -> str:
    alert = notice.alert
    since = f"since {iso(notice.since_s)}" if notice.what in ("still", "ended") else f"at {iso(notice.at_s)}"
    rows: Mapping[str, str] = {
        "where": f"{link(alert, ui_url)}",
        "next": alert.command if notice.what != "ended" else "nothing; it is over",
    }
    return "\n".join([title(notice), f"  {since}", *(f"  {name}: {text}" for name, text in rows.items())])
