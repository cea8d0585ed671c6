"""Where the server listens, how long it waits for a request, and how it ends."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from nomoat.config import ConfigError
from nomoat.serve.app import App
from nomoat.serve.limits import Bounds

BACKLOG = 2048  # connections that the kernel holds until they are taken
LAST_SECONDS = 5  # for clients to read what is left when the server ends


def listening(address: str, port: int) -> socket.socket:
    """A socket that is bound, and refuses connections until it listens; ConfigError where that can't be."""
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port {port}; expected 0 to 65535; 0 takes a free one")
    try:
        family, kind, number, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
    except OSError as error:
        raise ConfigError(f"--address {address}: {error}; expected one of this machine's") from None
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(place)
    except OSError as error:
        bound.close()
        where = f"{address}, port {port}: {error.strerror}"
        raise ConfigError(f"{where}; expected a free place of this machine; choose another --port") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Where a bound socket is asked."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def page_of(bound: socket.socket) -> str:
    """Where a browser of this machine finds the page."""
    url = url_of(bound).replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    return f"{url}/"


def serve(app: App, bound: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM; then what runs is finished, for `drain_seconds` at most."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # that a client has left is no news
    with quiet_end():
        Server(app).run(sockets=[bound])


class Server(uvicorn.Server):
    """Uvicorn's; streams of news, which have no end of their own, end with it, and replies that are not
    finished `drain_seconds` after a signal end as they are by then."""

    def __init__(self, app: App):
        super().__init__(configured(app))
        self.application = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.application
        app.ending = True
        timer = asyncio.get_running_loop().call_later(app.bounds.drain_seconds, app.worker.expire)
        await super().shutdown(sockets)
        timer.cancel()


def configured(app: App) -> uvicorn.Config:
    """Nothing is logged of a request, and nobody is believed about whom it is from."""
    bounds = app.bounds
    return uvicorn.Config(
        app,
        http=protocol(bounds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=bounds.header_bytes,
        timeout_keep_alive=bounds.idle_seconds,
        timeout_graceful_shutdown=int(bounds.drain_seconds) + LAST_SECONDS,
    )


@contextlib.contextmanager
def quiet_end() -> Iterator[None]:
    """Uvicorn sends the signals that ended it once more, to whoever had them before: here nobody."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def protocol(bounds: Bounds) -> type[H11Protocol]:
    """HTTP/1.1 that closes a connection whose request does not become whole in time."""

    class Timed(H11Protocol):
        timer: asyncio.TimerHandle | None = None
        stalled: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > bounds.connections:
                transport.abort()
            self.watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.watch()

        def connection_lost(self, error: Exception | None) -> None:
            self.stop()
            self.resume_writing()
            super().connection_lost(error)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.stalled = self.loop.call_later(bounds.stalled_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.stalled is not None:
                self.stalled.cancel()
                self.stalled = None

        def watch(self) -> None:
            """A timer runs exactly while a request is incomplete."""
            if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
                if self.timer is None:
                    self.timer = self.loop.call_later(bounds.receive_seconds, self.transport.abort)
            else:
                self.stop()

        def stop(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

    return Timed
