"""Alerts arrive where they are sent: a log, mailboxes behind a real SMTP server, a webhook behind a real HTTP server."""

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets_tests.operations.alerts.receivers import (
    LOOPBACK,
    SmtpReceiver,
    WebReceiver,
    smtp_server,
    web_server,
)
from my_platform.errors import PlatformError
from my_platform.operations.alerts.channels import LogFile, NotDelivered, channels_of, link, mail
from my_platform.operations.alerts.conditions import Alert, Known, Refusal
from my_platform.operations.alerts.facts import Seen
from my_platform.operations.alerts.said import Notice
from my_platform.operations.alerts.telling import Teller
from my_platform.settings import Settings, load_settings

NOTHING = Known()
REFUSAL = Refusal("raw/orders", "2026-01-08", "no column CENTS")
ALERT = Alert(
    "k", "refused", "error", "raw/orders is refused", "my-platform plan", "raw/orders", "2026-01-08"
)


@pytest.fixture
def smtp() -> Iterator[SmtpReceiver]:
    with smtp_server() as found:
        yield found


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_server() as found:
        yield found


def settings(
    home: Path, smtp: SmtpReceiver | None = None, web: WebReceiver | None = None, **more: Any
) -> Settings:
    given = {"home": home, **more}
    if smtp:
        server = {"alert_smtp_host": LOOPBACK, "alert_smtp_port": smtp.port, "alert_smtp_tls": "off"}
        given = {"alert_mail_to": ("ada@example.org",), **server, **given}
    if web:
        given["alert_webhook_url"] = web.url
    return Settings(**given)


class Scene:
    """A teller on given knowledge and a clock of its own."""

    def __init__(self, given: Settings) -> None:
        self.given, self.now_s, self.pauses = given, 1_000_000.0, 0

    def tell(
        self, known: Known | PlatformError = NOTHING, *, passed_s: float = 60, at_once: bool = False
    ) -> Any:
        def look(_cursors: object, _now_s: float) -> Seen:
            if isinstance(known, PlatformError):
                raise known
            return Seen(known, {})

        self.now_s += passed_s
        teller = Teller(self.given.alerts, channels_of(self.given), repeat_s=0, pause=self.pause)
        return teller.tell(look, self.now_s, at_once=at_once)

    def pause(self, _s: float) -> None:
        self.pauses += 1

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.given.alerts / "alerts.jsonl").read_text().splitlines()]


def test_an_alert_arrives_everywhere_once_and_its_end_too(
    tmp_path: Path, smtp: SmtpReceiver, web: WebReceiver
) -> None:
    scene = Scene(settings(tmp_path, smtp, web))
    for known in (Known([REFUSAL]), Known([REFUSAL]), Known(), Known()):
        scene.tell(known)
    assert [line["what"] for line in scene.log()] == ["began", "ended"]
    assert [alert["id"] for alert in web.alerts] == [line["id"] for line in scene.log()]
    first, second = smtp.mails
    assert first["Subject"].startswith("[my_platform] error: raw/orders 2026-01-08 is refused")
    assert second["Subject"].startswith("[my_platform] over: error: raw/orders 2026-01-08 is refused")
    text = first.get_content()
    assert "no column CENTS" in text
    assert "next: my-platform why raw/orders 2026-01-08" in text
    where = "http://127.0.0.1:3000/assets/raw/orders?view=partitions&partition=2026-01-08"
    assert where in text
    assert web.alerts[0]["link"] == where


def test_what_begins_in_one_look_comes_in_one_message(
    tmp_path: Path, smtp: SmtpReceiver, web: WebReceiver
) -> None:
    scene = Scene(settings(tmp_path, smtp, web))
    scene.tell(Known([Refusal("raw/orders", f"day {number}", "bad") for number in range(70)]))
    (message,) = smtp.mails
    assert message["Subject"].endswith("(and 69 more)")
    assert message.get_content().count("next: ") == 50
    assert "And 20 more" in message.get_content()
    assert len(web.bodies) == 1
    assert len(web.alerts) == len(scene.log()) == 70


def test_what_a_receiver_does_not_take_waits_for_it_and_no_other_gets_it_twice(
    tmp_path: Path, smtp: SmtpReceiver, web: WebReceiver
) -> None:
    scene = Scene(settings(tmp_path, smtp, web))
    smtp.down = True
    told = scene.tell(Known([REFUSAL]))
    assert (
        "451" in told.failed["mail ada@example.org"]
        or "try again later" in told.failed["mail ada@example.org"]
    )
    assert (told.delivered, told.waiting, scene.pauses) == ({"log": 1, "webhook": 1}, 1, 1)
    smtp.down = False
    # Too early: a server that was down a moment ago is left alone, unless a person asks.
    assert smtp.connections == 2
    scene.tell(Known([REFUSAL]), passed_s=1)
    assert smtp.connections == 2
    told = scene.tell(Known(), passed_s=1, at_once=True)
    assert (told.failed, told.waiting) == ({}, 0)
    (message,) = smtp.mails
    assert [message.get_content().count(word) for word in ("error: raw/orders", "over: error")] == [2, 1]
    assert [alert["what"] for alert in web.alerts] == ["began", "ended"]


@pytest.mark.parametrize("status", [302, 400, 500, 503])
def test_a_webhook_that_answers_with_anything_but_success_has_not_got_it(
    tmp_path: Path, web: WebReceiver, status: int
) -> None:
    scene = Scene(settings(tmp_path, web=web))
    web.status = status
    told = scene.tell(Known([REFUSAL]))
    assert str(status) in told.failed["webhook"]
    assert web.requests == 2
    web.status = 204
    scene.tell(Known([REFUSAL]), passed_s=31)
    assert [alert["what"] for alert in web.alerts] == ["began"]


def test_one_address_that_is_refused_does_not_keep_the_others_from_theirs(
    tmp_path: Path, smtp: SmtpReceiver
) -> None:
    smtp.refused = {"gone@example.org"}
    scene = Scene(settings(tmp_path, smtp, alert_mail_to=("gone@example.org", "ada@example.org")))
    told = scene.tell(Known([REFUSAL]))
    assert list(told.failed) == ["mail gone@example.org"]
    assert [message["To"] for message in smtp.mails] == ["ada@example.org"]


@pytest.mark.parametrize("channel", ["mail ada@example.org", "webhook"])
def test_a_server_that_is_not_there_or_never_answers_is_told_of(tmp_path: Path, channel: str) -> None:
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        silent.listen()
        port = silent.getsockname()[1]
        there = {"alert_timeout_s": 0.2, "alert_webhook_url": f"http://{LOOPBACK}:{port}/"}
        scene = Scene(settings(tmp_path, SmtpReceiver(port=port), **there))
        assert "timed out" in scene.tell(Known([REFUSAL])).failed[channel]
    assert "refused" in scene.tell(Known([REFUSAL]), passed_s=31).failed[channel].lower()


def test_a_mail_goes_over_an_encrypted_connection_with_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    more = ["-addext", f"subjectAltName=IP:{LOOPBACK}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words, *more], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with smtp_server(context) as smtp:
        given = {"alert_smtp_tls": "starttls", "alert_smtp_user": "ada", "alert_smtp_password": "secret"}
        scene = Scene(settings(tmp_path / "home", smtp, **given))
        assert "certificate verify failed" in next(iter(scene.tell(Known([REFUSAL])).failed.values()))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert scene.tell(Known([REFUSAL]), at_once=True).failed == {}
        assert (len(smtp.mails), len(smtp.logins)) == (1, 1)
        assert smtp.encrypted >= 1


def test_that_nothing_can_be_seen_is_told_and_ends_nothing_that_was_seen(tmp_path: Path) -> None:
    scene = Scene(settings(tmp_path))
    scene.tell(Known([REFUSAL]))
    for _ in range(2):
        scene.tell(PlatformError("the index cannot be read"))
    scene.tell(Known([REFUSAL]))
    assert [(line["what"], line["key"]) for line in scene.log()] == [
        ("began", "refused raw/orders 2026-01-08"),
        ("began", "look"),
        ("ended", "look"),
    ]
    assert "the index cannot be read" in scene.log()[1]["said"]


def test_a_notice_that_stands_in_the_log_is_not_written_again(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "alerts.jsonl")
    notice = Notice("began", 1, 1, ALERT)
    log.send([notice])
    log.send([notice, Notice("ended", 2, 1, ALERT)])
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 2


def test_a_log_that_cannot_be_written_keeps_what_it_is_owed(tmp_path: Path) -> None:
    (tmp_path / "alerts.jsonl").mkdir()
    with pytest.raises(NotDelivered, match="directory"):
        LogFile(tmp_path / "alerts.jsonl").send([Notice("began", 1, 1, ALERT)])


def test_mail_without_a_server_is_refused_at_start_up(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="MY_PLATFORM_ALERT_SMTP_HOST"):
        channels_of(settings(tmp_path, alert_mail_to=("ada@example.org",)))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "alerts").write_text("")
    with pytest.raises(PlatformError, match=r"alerts cannot be used: .*right to write"):
        Scene(settings(tmp_path)).tell()


def test_what_is_no_text_does_not_keep_the_rest_from_being_sent(tmp_path: Path, smtp: SmtpReceiver) -> None:
    hostile = Refusal("raw/orders", "2026-01-08", "a\udcff\x00.csv has no day")
    assert Scene(settings(tmp_path, smtp)).tell(Known([hostile])).failed == {}
    assert "a\\udcff" in smtp.mails[0].get_content()


@pytest.mark.parametrize("address", ["ada", "ada@example.org\nBcc: eve@example.org", "a b@c.d"])
def test_a_mail_address_that_is_none_is_refused_by_name(address: str) -> None:
    with pytest.raises(PlatformError, match=r"MY_PLATFORM_ALERT_MAIL_TO.*expected mail addresses"):
        load_settings(alert_mail_to=address)


@pytest.mark.parametrize("name", ["ui_url", "alert_webhook_url"])
def test_an_address_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(PlatformError, match=f"MY_PLATFORM_{name.upper()}.*expected http"):
        load_settings(**{name: "file:///etc/passwd"})


def test_text_of_a_file_cannot_add_headers_to_a_mail() -> None:
    said = "bad\r\nBcc: eve@example.org\n\nbody"
    message = mail(
        [Notice("began", 1, 1, Alert("k", "check", "error", said, "x"))], "a@b.c", "a@b.c", "http://ui"
    )
    assert "Bcc" not in message
    assert "\n" not in message["Subject"]


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        (Alert("k", "run_failed", "error", "", "", run_id="r1"), "http://ui/runs/r1"),
        (Alert("k", "check", "error", "", "", "raw/shops"), "http://ui/assets/raw/shops?view=partitions"),
        (Alert("k", "promotion", "info", "", ""), "http://ui"),
    ],
    ids=["run", "asset", "nowhere"],
)
def test_an_alert_links_to_what_it_is_about(alert: Alert, expected: str) -> None:
    assert link(alert, "http://ui") == expected
