"""This process's connection to a Ray cluster."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from my_platform.errors import PlatformError


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Connected meanwhile; a process that is so already, such as a worker of the cluster, stays so.

    Args:
        address: HOST:PORT of the head; ``auto`` for the cluster that this machine is a node of, empty for one on this
            machine that is started for it.

    Raises:
        PlatformError: the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise PlatformError(
            "Ray is not installed: pip install -c constraints.txt -e '.[ray]', or unset what asks for it "
            "(MY_PLATFORM_FIT_OVER_WORKERS_ROWS)"
        ) from error
    if ray.is_initialized():
        yield
        return
    # RAY_ADDRESS says where jobs are submitted, which is another place.
    kept = os.environ.pop("RAY_ADDRESS", None)
    try:
        if address:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PlatformError(
            f"the Ray cluster {address} cannot be reached from this machine: {error}. Run this on one of its nodes, and "
            "set MY_PLATFORM_RAY_ADDRESS to the head, such as ray-head:6379"
        ) from error
    finally:
        if kept is not None:
            os.environ["RAY_ADDRESS"] = kept
    try:
        # What a node says of a lost worker Ray prints to stdout, where a command's answer belongs and nothing else.
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()
