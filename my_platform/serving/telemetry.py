"""What a service tells of itself: metrics for Prometheus, and the health of the bundle that it serves."""

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from my_platform.learning.health import InService
from my_platform.serving.log import Prediction
from my_platform.storage.objects import replace_file

_KEPT_TIMES = 10_000
_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class Telemetry:
    """Counts and times of one service, since it started or took its bundle up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._replies = Counter(
            "my_platform_replies",
            "Replies by operation and status",
            ["operation", "status"],
            registry=self.registry,
        )
        self._of: dict[tuple[str, int], Counter] = {}
        self._seconds = Histogram(
            "my_platform_score_seconds",
            "Seconds of a scoring request",
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._probability = Histogram(
            "my_platform_probability",
            "Probabilities that were answered",
            buckets=[n / 10 for n in range(1, 10)],
            registry=self.registry,
        )
        self._rows = Counter("my_platform_rows", "Rows that were answered", registry=self.registry)
        self._flagged = Counter(
            "my_platform_flagged", "Rows at or above the threshold", registry=self.registry
        )
        self._degraded = Counter(
            "my_platform_degraded",
            "Rows whose features may differ from the offline ones",
            registry=self.registry,
        )
        self._labels = Counter(
            "my_platform_labels", "Labels that came back and were new", registry=self.registry
        )
        self._model = Gauge(
            "my_platform_model",
            "1 for the bundle that serves",
            ["asset", "week", "bundle"],
            registry=self.registry,
        )
        self._refused = Gauge(
            "my_platform_champion_refused",
            "1 while the champion is refused and another serves",
            registry=self.registry,
        )
        self._swaps = Counter("my_platform_swaps", "Champions taken up", registry=self.registry)
        self._bundle = ""
        self._requests = self._errors = 0
        self._times: deque[float] = deque(maxlen=_KEPT_TIMES)

    def replied(self, operation: str, status: int, seconds: float) -> None:
        """Count a reply; scoring requests count for the health of the bundle too."""
        child = self._of.get((operation, status))
        if child is None:
            child = self._of[operation, status] = self._replies.labels(operation, str(status))
        child.inc()
        if operation == "score" and (status < 300 or status >= 500):
            self._seconds.observe(seconds)
            self._requests += 1
            self._errors += status >= 500
            self._times.append(seconds)

    def answered(self, found: Sequence[Prediction]) -> None:
        """Count rows."""
        self._rows.inc(len(found))
        for prediction in found:
            self._probability.observe(prediction.probability)
            if prediction.flagged:
                self._flagged.inc()
            if prediction.degraded is not None:
                self._degraded.inc()

    def labelled(self) -> None:
        """Count a label."""
        self._labels.inc()

    def serves(self, bundle: str, asset: str, week: str) -> None:
        """A bundle was taken up; its health begins anew."""
        self._model.clear()
        self._model.labels(asset, week, bundle).set(1)
        self._swaps.inc()
        self._bundle, self._requests, self._errors = bundle, 0, 0
        self._times.clear()

    def refuses(self, refused: bool) -> None:
        """Whether the champion cannot serve."""
        self._refused.set(refused)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    @property
    def health(self) -> InService | None:
        """How the bundle does; None where none serves."""
        if not self._bundle:
            return None
        times = sorted(self._times)
        p99_s = times[math.ceil(len(times) * 0.99) - 1] if times else 0.0
        return InService(self._bundle, self._requests, self._errors, round(p99_s * 1e3, 3))


def write_health(path: Path, health: InService) -> None:
    """Write the file that `my-platform health` reads."""
    replace_file(path, json.dumps(asdict(health)).encode())
