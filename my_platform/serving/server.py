"""How a process of the service speaks HTTP, and what it asks of Python so that no request waits long."""

import gc
import logging
import socket
import sys
from typing import Any

import uvicorn

from my_platform.serving.protocol import BoundedHttp

# A look for garbage stops every request, for some .4 µs an object: 10 to 30 ms were seen with 50,000 young ones. Older
# ones are looked through seldom, as nearly all are freed by their counts, but are: a connection refers to itself.
_YOUNG, _SELDOM = 2_000, 100
# As long may the thread that writes the state hold Python's lock while a request waits for it.
_SWITCH_S = 0.0005


def served_until_ended(listening: socket.socket, application: Any) -> None:
    """Serve until SIGINT or SIGTERM; requests that came are answered first."""
    tune()
    with listening:
        server_of(application).run(sockets=[listening])


def server_of(application: Any) -> uvicorn.Server:
    """A server of an application that answers some requests at once (`Straight`)."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=BoundedHttp,
            loop="uvloop",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            backlog=1024,
        )
    )


def tune() -> None:
    """Let what was made until here live until the end, and nothing stop requests for long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _SELDOM, _SELDOM)
    sys.setswitchinterval(_SWITCH_S)
