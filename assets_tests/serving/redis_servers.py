"""A real Redis server on loopback, with its data in a folder so that it can be stopped and started again."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

REDIS = shutil.which("redis-server")
START_S = 20


class RedisServer:
    """With `appendfsync` at always what was acknowledged survives a kill; everysec may lose two seconds."""

    def __init__(self, folder: Path, appendfsync: str = "always") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._appendfsync = appendfsync
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert REDIS is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [REDIS, *options, "--appendonly", "yes", "--appendfsync", self._appendfsync, "--save", ""],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
