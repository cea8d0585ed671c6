"""The thread that owns the models: requests are queued for it, tokens come back to the event loop."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

import torch

from nomoat.engine.engine import Engine
from nomoat.engine.request import Request, Token
from nomoat.run.energy import Energy
from nomoat.serve.refusal import Refusal

Jobs = dict[
    tuple[Engine, int], tuple["Job", int]
]  # (where, number there) -> (whose, of which of its requests)
News = list[tuple["Job", int, Token]]  # (whose, of which of its requests, what)
REST_SECONDS = 0.1  # between two looks whether the thread still lives
FAILED = "the model has failed and the server's log says how; restart the server"


class Job:
    """Requests of one body on their way through an engine; made by `Worker.queue`, read in its event loop."""

    def __init__(self, engine: Engine, requests: Sequence[Request]):
        self.engine, self.requests = engine, requests
        self.left = sum(request.n for request in requests)  # samples that are not read to their end
        self.running = self.left  # samples whose end the thread has not seen
        self.numbers: list[int] = []  # of the requests, in the engine
        self.unread: deque[tuple[int, Token]] = deque()
        self.news = asyncio.Event()
        self.failed = self.late = False
        self.began = time.perf_counter()
        self.first_seconds: float | None = None  # from then to its first token
        self.seconds = 0.0  # to the last one so far
        self.joules = 0.0  # its share of the steps that it was in
        self.joules_source = "estimated"

    def expire(self) -> None:
        """No token is waited for any more."""
        self.late = True
        self.news.set()

    def took(self, seconds: float) -> None:
        """A token has come."""
        self.seconds = seconds
        if self.first_seconds is None:
            self.first_seconds = seconds

    async def tokens(self) -> AsyncIterator[tuple[int, Token]]:
        """(i, token of requests[i]) as they come; fewer than asked for where they take too long."""
        while self.left:
            while not self.unread:
                if self.failed:
                    raise Refusal(FAILED, status=503, code="model_failed")
                if self.late:
                    return
                self.news.clear()
                await self.news.wait()
            i, token = self.unread.popleft()
            self.left -= token.stop is not None
            yield i, token


class Rest:
    """The engines stand still between these two."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()


class Worker:
    """Steps the engines of all models in one thread, as long as any of them has rows."""

    def __init__(self) -> None:
        self.jobs: Jobs = {}
        self.orders: deque[tuple[str, Job | Rest]] = deque()
        self.awake = threading.Event()
        self.closing = self.failed = False
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.n_rows = 0  # samples of the jobs that are queued or run; counted in the event loop
        self.queued: set[Job] = set()
        self.late = False  # whether nothing is waited for any more
        self.meter = Energy("cpu", units=torch.get_num_threads())

    def start(self) -> None:
        """Begin; tokens are handed to the event loop that runs now."""
        self.loop = asyncio.get_running_loop()
        self.thread.start()

    def expire(self) -> None:
        """No token is waited for any more: replies end as they are."""
        self.late = True
        for job in self.queued:
            job.expire()

    def close(self) -> None:
        """End after the step that is computed now."""
        self.closing = True
        self.awake.set()
        if self.thread.ident is not None:
            self.thread.join()

    @contextlib.contextmanager
    def queue(self, engine: Engine, requests: Sequence[Request], seconds: float) -> Iterator[Job]:
        """A job of requests that `engine.check` has passed, for so many seconds; however the block is left,
        nothing of it stays in the engine.
        """
        if self.failed:
            raise Refusal(FAILED, status=503, code="model_failed")
        job = Job(engine, requests)
        n_rows = job.left
        self.n_rows += n_rows
        self._order("begin", job)
        self.queued.add(job)
        timer = self.loop.call_later(0 if self.late else seconds, job.expire)
        try:
            yield job
        finally:
            timer.cancel()
            self.queued.discard(job)
            self.n_rows -= n_rows
            self._order("end", job)

    def n_left(self, engine: Engine) -> int:
        """How many samples of an engine run or wait."""
        return sum(job.left for job in self.queued if job.engine is engine)

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """A block, in a thread of its own, during which no step is computed: the models are the block's."""
        rest = Rest()
        self._order("rest", rest)
        try:
            while not rest.begun.wait(REST_SECONDS):
                if self.failed:
                    raise Refusal(FAILED, status=503, code="model_failed")
            yield
        finally:
            rest.over.set()

    def _order(self, what: str, job: Job | Rest) -> None:
        self.orders.append((what, job))
        self.awake.set()

    # --- in the thread ---

    def _run(self) -> None:
        try:
            while not self.closing:
                self.awake.clear()
                self._obey()
                engines = {engine for engine, _ in self.jobs}
                if not engines:
                    self.awake.wait()
                for engine in engines:
                    self.meter.lap()
                    self._hand_out(engine, engine.step(), *self.meter.lap())
        finally:  # a bug has its traceback; nobody waits for what never comes
            self.failed = True
            self._obey()
            for job in {job for job, _ in self.jobs.values()}:
                job.failed = True
                self.loop.call_soon_threadsafe(job.news.set)

    def _obey(self) -> None:
        while self.orders:
            what, job = self.orders.popleft()
            if isinstance(job, Rest):
                job.begun.set()
                job.over.wait()
                continue
            if what == "begin":
                for i, request in enumerate(job.requests):
                    number = job.engine.submit(request)
                    job.numbers.append(number)
                    self.jobs[job.engine, number] = (job, i)
                continue
            for number in job.numbers:
                if self.jobs.pop((job.engine, number), None):
                    job.engine.cancel(number)

    def _hand_out(self, engine: Engine, tokens: Sequence[Token], joules: float, source: str) -> None:
        """Tokens to whom they belong; the step's joules are shared by the rows that it had."""
        news: News = []
        now = time.perf_counter()
        rows = [row.number for row in engine.scheduler.running]
        rows += [token.request for token in tokens if token.stop]
        for number in rows:
            job, _ = self.jobs[engine, number]
            job.joules += joules / len(rows)
            job.joules_source = source
        for token in tokens:
            job, i = self.jobs[engine, token.request]
            job.took(now - job.began)
            news.append((job, i, token))
            if token.stop:
                job.running -= 1
        for job in {job for job, _, token in news if token.stop}:
            if not job.running:
                for number in job.numbers:
                    self.jobs.pop((engine, number))
        if news:
            self.loop.call_soon_threadsafe(_deliver, news)


def _deliver(news: News) -> None:
    for job, i, token in news:
        job.unread.append((i, token))
        job.news.set()
