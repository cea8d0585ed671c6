"""Ten thousand requests, a thousand of which are left alone: nothing of them stays."""

import contextlib
import http.client
import json
import os
import random
import socket
import threading
from pathlib import Path

import pytest
from serving import CHAT, TEXT, made, running

N_REQUESTS, N_CLIENTS, ONE_IN = 10_000, 8, 10
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def held(client):
    """Bytes of memory, files, threads, rows and blocks that are held."""
    engine = client.app.shelf.entries["lamp"].served.engine
    n_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    counts = {
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "rows": len(engine.scheduler.running) + len(engine.scheduler.waiting) + client.app.worker.n_rows,
        "slots": len(engine.scheduler.slots),
        "held blocks": sum(n > 0 for n in engine.blocks.holders),
        "jobs": len(client.app.worker.jobs),
    }
    return n_bytes, counts


def asked(draw):
    """A request at random: whole or streamed, good or bad."""
    messages = [{"role": "user", "content": f"lamp {draw.randrange(50)}"}]
    fields = {"max_tokens": draw.randrange(1, 6), "stream": draw.random() < 0.5, "n": draw.choice((1, 1, 3))}
    kind = draw.randrange(4)
    if kind == 0:
        return TEXT, fields | {"prompt": "The lamp", "echo": True, "logprobs": 1}
    if kind == 1:
        return CHAT, fields | {"messages": messages, "temperature": 9}  # which can't be
    return CHAT, fields | {"messages": messages, "logprobs": draw.random() < 0.2}


def ask(port, n, seed):
    """`n` requests over one connection; one in ten over another that is closed without reading."""
    draw = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(n):
        path, fields = asked(draw)
        body = json.dumps(fields).encode()
        if draw.randrange(ONE_IN) == 0:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.sendall(head + body[: draw.choice((len(body), len(body), 3))])
            continue
        connection.request("POST", path, body)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == (400 if fields.get("temperature") == 9 else 200), text
    connection.close()


def clients(port, n, seed):
    with contextlib.ExitStack() as stack:
        for number in range(N_CLIENTS):
            thread = threading.Thread(target=ask, args=(port, n // N_CLIENTS, f"{seed}/{number}"))
            thread.start()
            stack.callback(thread.join)


@pytest.mark.check
def test_nothing_stays_of_ten_thousand_requests():
    with running(made()) as client:
        clients(client.port, N_REQUESTS // 5, "warm")
        client.alone()
        before, counts = held(client)
        clients(client.port, N_REQUESTS, "soak")
        client.alone()
        after, counts_after = held(client)
        assert counts_after == counts
        assert after < 1.01 * before
