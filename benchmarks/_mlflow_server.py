"""`mlflow models serve` with the trees of a bundle, measured as the scoring service is."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks._wrk import WARM_S, Figures, by_wrk, on_core
from my_platform.learning.bundle import Bundle

_STARTS_S = 120
_LUA = """
wrk.method, wrk.body = "POST", [==[BODY]==]
wrk.headers["Content-Type"] = "application/json"
"""


def by_mlflow(bundle: Bundle, folder: Path, seconds: int) -> Figures:
    """wrk's figures of `mlflow models serve` with a bundle's trees; raises RuntimeError where it does not answer."""
    import lightgbm
    import mlflow.lightgbm

    model = folder / "mlflow_model"
    trees = lightgbm.Booster(model_str=bundle.files["model.txt"].decode())
    mlflow.lightgbm.save_model(trees, str(model), pip_requirements=["lightgbm"])
    features = bundle.about["features"]
    values = [round(float(value), 2) for value in np.random.default_rng(1).uniform(0, 100, len(features))]
    script = folder / "peer.lua"
    script.write_text(
        _LUA.replace("BODY", json.dumps({"dataframe_split": {"columns": features, "data": [values]}}))
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # It looks for its server among the commands.
    commands = Path(sys.executable).parent
    serve = [str(commands / "mlflow"), "models", "serve", "--model-uri", str(model), "--port", str(port)]
    with (folder / "mlflow.log").open("w") as told:
        server = subprocess.Popen(
            [*on_core(0), *serve, "--env-manager", "local", "--workers", "1"],
            stdout=told,
            stderr=told,
            start_new_session=True,
            env={**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + _STARTS_S
        while not _answers(f"{url}/ping"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"mlflow models serve does not answer: {(folder / 'mlflow.log').read_text()[-2000:]}"
                )
            time.sleep(0.2)
        by_wrk(f"{url}/invocations", script, WARM_S)
        found = by_wrk(f"{url}/invocations", script, seconds)
        if found.failed:
            raise RuntimeError(
                f"mlflow models serve answered {found.failed:,} requests otherwise than by a score"
            )
        return found
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
