"""What a server counts, for Prometheus."""

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from nomoat.serve.asked import Usage

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
NAMES = ("model",)


class Metrics:
    """Counters of one server, each with the model's name."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.answers = Counter(
            "nomoat_requests", "requests to a model, by how they ended", ("model", "end"), registry=registry
        )
        self.prompt = Counter("nomoat_prompt_tokens", "tokens of prompts", NAMES, registry=registry)
        self.cached = Counter(
            "nomoat_cached_tokens", "tokens of prompts that were not computed again", NAMES, registry=registry
        )
        self.completion = Counter(
            "nomoat_completion_tokens", "tokens that were generated", NAMES, registry=registry
        )
        self.refused = Counter("nomoat_refused", "requests that got an error", ("status",), registry=registry)
        self.active = Gauge("nomoat_requests_active", "requests that wait or run", NAMES, registry=registry)
        self.running = Gauge("nomoat_rows_running", "samples that are continued", NAMES, registry=registry)
        self.waiting = Gauge(
            "nomoat_rows_waiting", "samples that wait for a row or memory", NAMES, registry=registry
        )
        self.first = Histogram(
            "nomoat_first_token_seconds",
            "from a request to its first token",
            NAMES,
            registry=registry,
            buckets=SECONDS,
        )
        self.seconds = Histogram(
            "nomoat_answer_seconds",
            "from a request to its last token",
            NAMES,
            registry=registry,
            buckets=SECONDS,
        )

    @contextlib.contextmanager
    def answering(self, model: str, usage: Usage) -> Iterator[None]:
        """Counts one answer, however it ends."""
        began, end = time.perf_counter(), "cancelled"
        self.active.labels(model).inc()
        try:
            yield
            end = "done"
        finally:
            self.active.labels(model).dec()
            self.answers.labels(model, end).inc()
            self.prompt.labels(model).inc(usage.prompt_tokens)
            self.cached.labels(model).inc(usage.cached_tokens)
            self.completion.labels(model).inc(usage.completion_tokens)
            if usage.completion_tokens:
                self.first.labels(model).observe(usage.first_token_seconds)
            self.seconds.labels(model).observe(time.perf_counter() - began)

    def text(self) -> bytes:
        return generate_latest(self.registry)
