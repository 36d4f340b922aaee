"""The command about alerts: what somebody has to know, and sending it."""

import time
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError


def alerts(
    send: Annotated[
        bool, typer.Option("--send", help="Send what is new, as the daemon does, and what could not be sent.")
    ] = False,
    test: Annotated[bool, typer.Option("--test", help="Send a test alert to everybody.")] = False,
    as_json: Json = False,
) -> None:
    """What somebody has to know now: exit code 1 where it is an error, or somebody could not be told."""
    if send and test:
        raise PlatformError("--test sends a test alert and nothing else; leave --send or --test out")
    found = _test() if test else _look(send=send)
    if as_json:
        print_json(found)
    else:
        _show(found)
    errors = any(alert["severity"] == "error" for alert in found["open"])
    if found["failed"] or errors:
        raise SystemExit(1)


def _look(*, send: bool) -> dict[str, Any]:
    from my_platform.operations import session
    from my_platform.operations.alerts.channels import link, ui_of
    from my_platform.operations.alerts.home import look_at, teller_of
    from my_platform.operations.alerts.said import iso

    settings = settings_of_call()
    teller = teller_of(settings)
    with session.opened(settings) as opened:
        look = look_at(settings, opened.workspace, opened.heads)
        told = teller.tell(look, time.time(), at_once=True) if send else teller.preview(look, time.time())
    ui_url = ui_of(settings)
    return {
        "open": [
            {**vars(alert), "since": iso(since_s), "link": link(alert, ui_url)}
            for alert, since_s in told.open
        ],
        "new": [notice.as_json() for notice in told.notices],
        "delivered": dict(told.delivered),
        "failed": dict(told.failed),
        "waiting": told.waiting if send else told.waiting - len(told.notices),
    }


def _test() -> dict[str, Any]:
    from my_platform.operations.alerts.channels import NotDelivered, channels_of
    from my_platform.operations.alerts.conditions import Alert
    from my_platform.operations.alerts.said import Notice

    now_s = time.time()
    alert = Alert(f"test {now_s}", "test", "info", "this is a test: alerts arrive", "my-platform alerts")
    notice = Notice("happened", now_s, now_s, alert)
    delivered, failed = {}, {}
    for channel in channels_of(settings_of_call()):
        try:
            channel.send([notice])
            delivered[channel.name] = 1
        except NotDelivered as error:
            failed[channel.name] = str(error)
    return {
        "open": [],
        "new": [notice.as_json()],
        "delivered": delivered,
        "failed": failed,
        "waiting": len(failed),
    }


def _show(found: dict[str, Any]) -> None:
    rows = [[alert["severity"], alert["since"], alert["said"], alert["command"]] for alert in found["open"]]
    rows += [
        [new["severity"], new["at"], new["said"], new["command"]]
        for new in found["new"]
        if new["what"] == "happened"
    ]
    if rows:
        show_table(["", "since", "what happened", "next step"], rows)
    else:
        typer.echo("there is nothing to alert of")
    for receiver, count in found["delivered"].items():
        typer.echo(f"{receiver} was told of {count}")
    for receiver, why in found["failed"].items():
        complain(f"{receiver} could not be told, and is tried again: {why}")
