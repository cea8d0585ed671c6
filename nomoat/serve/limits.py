"""What one request may take, and who may ask: addresses, names, keys, bytes, depth, rows, seconds."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.config import ConfigError, DataError, JsonObject
from nomoat.serve.refusal import Refusal

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHORTEST_KEY = 16
HASHED = "sha256:"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything."""

    body_bytes: int = 1 << 20
    header_bytes: int = 16 << 10
    depth: int = 64  # of JSON
    choices: int = 8  # `n`
    prompts: int = 64  # of one body
    stops: int = 16
    stop_characters: int = 256
    rows: int = 32  # that run at the same time
    queue: int = 64  # rows that wait for these
    connections: int = 512
    idle_seconds: int = 60  # between two requests of a connection
    receive_seconds: float = 10.0  # from a request's first byte to its last
    answer_seconds: float = 600.0  # to the last token; what is there by then is the answer
    stalled_seconds: float = 30.0  # in which a client reads nothing of what was sent
    drain_seconds: float = 30.0  # for what runs when the server is asked to end


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may ask.  `hosts` are names beside those of this machine; no key is kept, only its SHA-256."""

    address: str = "127.0.0.1"
    hosts: frozenset[str] = frozenset()
    keys: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host):
                raise ConfigError(f"--host {host}; expected a name or an address, without a port: box.lan")
        if self.address not in LOOPBACK and not self.keys:
            raise ConfigError(
                f"--address {self.address} can be reached from other machines; expected a key that its "
                "clients have: --keys FILE with a line such as `openssl rand -hex 24` prints"
            )

    def check(self, headers: Mapping[bytes, Sequence[bytes]], local: str | None, free: bool) -> None:
        """Refusal for who may not ask; `local` is the address that was connected to, `free` says that no key
        is asked for.
        """
        hosts = headers.get(b"host", ())
        if len(hosts) != 1 or not self.names(hosts[0], local):
            raise Refusal(
                "the Host header names another server; expected localhost, or a name declared with --host",
                status=403,
                code="host_not_allowed",
            )
        for origin in headers.get(b"origin", ()):
            place = re.fullmatch(rb"[a-z]+://([^/]+)/?", origin)
            if place is None or not self.names(place[1], local):
                raise Refusal("a page of another origin may not ask", status=403, code="origin_not_allowed")
        if self.keys and not free and not self.knows(headers):
            raise Refusal(
                "no key, or a wrong one; expected Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def names(self, host: bytes, local: str | None) -> bool:
        """Whether a Host header names this server; never an empty one."""
        found = re.fullmatch(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", host)
        name = found[1].decode().strip("[]").lower() if found else ""
        return bool(name) and (name in (*LOOPBACK, local) or name in self.hosts)

    def knows(self, headers: Mapping[bytes, Sequence[bytes]]) -> bool:
        """Whether a key is among the headers; compared in constant time, with each that there is."""
        bearer = [value[7:] for value in headers.get(b"authorization", ()) if value[:7].lower() == b"bearer "]
        given = [hashlib.sha256(key.strip()).digest() for key in (*bearer, *headers.get(b"x-api-key", ()))]
        equal = [hmac.compare_digest(one, other) for one in given for other in self.keys]  # all of them
        return any(equal)


def read_keys(path: Path) -> frozenset[bytes]:
    """SHA-256 of the keys in a file: a key a line, or `sha256:` and its digest in hexadecimal."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no keys in {path} ({error}); expected a text file with a key a line") from None
    keys = set()
    for number, line in enumerate(lines, 1):
        if line.startswith(HASHED):
            digest = line.removeprefix(HASHED)
            if not re.fullmatch("[0-9a-fA-F]{64}", digest):
                raise DataError(f"{path}, line {number}: expected 64 hexadecimal digits behind {HASHED}")
            keys.add(bytes.fromhex(digest))
        elif line and len(line) < SHORTEST_KEY:
            found = f"{path}, line {number}: a key of {len(line)} characters can be guessed"
            raise DataError(f"{found}; expected {SHORTEST_KEY} or more")
        elif line:
            keys.add(hashlib.sha256(line.encode()).digest())
    if not keys:
        raise DataError(f"{path} holds no key; expected one a line")
    return frozenset(keys)


def decode(body: bytes, depth: int) -> JsonObject:
    """The JSON object in a body; Refusal for anything else."""
    try:
        table = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}, column {error.colno}" if hasattr(error, "lineno") else ""
        raise Refusal(f"the body is no JSON{where}; expected an object", code="invalid_json") from None
    if not isinstance(table, dict):
        raise Refusal("the body is no JSON object; expected one with the fields of this route")
    level: list[Any] = [table]
    for _ in range(depth):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [value for values in inner for value in values]
        if not level:
            return table
    raise Refusal(f"the body is nested deeper than {depth} levels; expected fewer", code="too_deep")


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")
