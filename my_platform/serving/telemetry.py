"""What a service tells of itself: metrics for Prometheus, and the health of the bundle that it serves."""

import json
import math
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from my_platform.learning.health import InService
from my_platform.serving.log import Prediction
from my_platform.storage.objects import replace_file

_KEPT_TIMES = 10_000
_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
_TENTHS = tuple(n / 10 for n in range(1, 10))


class _Histogram:
    """Counts by upper edge, of which the last is infinite."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = (*edges, math.inf)
        self._counts = [0] * len(self._edges)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._edges, value)] += 1
        self._sum += value

    def family(self, name: str, text: str) -> Metric:
        edges = ["+Inf" if edge == math.inf else str(edge) for edge in self._edges]
        buckets = list(zip(edges, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._sum)


class Telemetry:
    """Counts and times of one service, since it started or took its bundle up.

    Written by one thread in plain numbers, since a metric that locks costs a request as much as reading it; they become
    metrics when Prometheus asks (`collect`).
    """

    def __init__(self) -> None:
        self._replies: Counter[tuple[str, int]] = Counter()
        self._seconds, self._probability = _Histogram(_BUCKETS_S), _Histogram(_TENTHS)
        self._rows = self._flagged = self._degraded = self._labels = self._swaps = 0
        self._refused = False
        self._taken_in_at = time.time()
        self._model = ("", "", "")
        self._requests = self._errors = 0
        self._times: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def replied(self, operation: str, status: int, seconds: float) -> None:
        """Count a reply; scoring requests count for the health of the bundle too."""
        self._replies[operation, status] += 1
        if operation == "score" and (status < 300 or status >= 500):
            self._seconds.observe(seconds)
            self._requests += 1
            self._errors += status >= 500
            self._times.append(seconds)

    def answered(self, found: Sequence[Prediction]) -> None:
        """Count rows."""
        self._rows += len(found)
        for prediction in found:
            self._probability.observe(prediction.probability)
            self._flagged += prediction.flagged
            self._degraded += prediction.degraded is not None

    def labelled(self) -> None:
        """Count a label."""
        self._labels += 1

    def serves(self, bundle: str, asset: str, week: str) -> None:
        """A bundle was taken up; its health begins anew."""
        self._model = (asset, week, bundle)
        self._swaps += 1
        self._requests = self._errors = 0
        self._times.clear()

    def took_in(self) -> None:
        """Partitions of validated days were taken into the online state."""
        self._taken_in_at = time.time()

    def refuses(self, refused: bool) -> None:
        """Whether the champion cannot serve."""
        self._refused = refused

    def collect(self) -> Iterator[Metric]:
        """All metrics as they stand."""
        replies = CounterMetricFamily(
            "my_platform_replies", "Replies by operation and status", labels=["operation", "status"]
        )
        for (operation, status), count in self._replies.copy().items():
            replies.add_metric([operation, str(status)], count)
        yield replies
        yield self._seconds.family("my_platform_score_seconds", "Seconds of a scoring request")
        yield self._probability.family("my_platform_probability", "Probabilities that were answered")
        for name, text, value in (
            ("rows", "Rows that were answered", self._rows),
            ("flagged", "Rows at or above the threshold", self._flagged),
            ("degraded", "Rows whose features may differ from the offline ones", self._degraded),
            ("labels", "Labels that came back and were new", self._labels),
            ("swaps", "Champions taken up", self._swaps),
        ):
            yield CounterMetricFamily(f"my_platform_{name}", text, value=value)
        model = GaugeMetricFamily(
            "my_platform_model", "1 for the bundle that serves", labels=["asset", "week", "bundle"]
        )
        if self._model[-1]:
            model.add_metric(self._model, 1)
        yield model
        yield GaugeMetricFamily(
            "my_platform_state_age_seconds",
            "Seconds since validated days were last taken into the online state, or the service started",
            value=time.time() - self._taken_in_at,
        )
        yield GaugeMetricFamily(
            "my_platform_champion_refused",
            "1 while the champion is refused and another serves",
            value=float(self._refused),
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    @property
    def health(self) -> InService | None:
        """How the bundle does; None where none serves."""
        *_, bundle = self._model
        if not bundle:
            return None
        times = sorted(self._times)
        p99_s = times[math.ceil(len(times) * 0.99) - 1] if times else 0.0
        return InService(bundle, self._requests, self._errors, round(p99_s * 1e3, 3))


def write_health(path: Path, health: InService) -> None:
    """Write the file that `my-platform health` reads."""
    replace_file(path, json.dumps(asdict(health)).encode())
