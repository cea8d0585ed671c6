"""The files of the pages: a person's browser gets them from here and nothing from elsewhere."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

WEB = Path(__file__).with_name("web")
PAGES = {  # path -> file
    "/": "index.html",
    "/lab": "lab.html",
    "/sw.js": "sw.js",
    "/manifest.webmanifest": "manifest.webmanifest",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
POLICIES = ("dompurify", "nomoat")  # of Trusted Types: the sanitiser's, and that of our own few lines
CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        f"trusted-types {' '.join(POLICIES)}",
    ]
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked about by its ETag
    "Vary": "Accept-Encoding",
}
PACKED = (".woff2", ".png")  # compressed as they are


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    plain: bytes
    zipped: bytes | None
    etag: str
    type: str


def routes() -> list[Route | Mount]:
    """What the browser loads; none of it holds a secret."""
    return [
        *(Route(path, sending(name), methods=["GET"]) for path, name in PAGES.items()),
        Mount("/assets", routes=[Route("/{name:path}", asset, methods=["GET"])]),
    ]


def sending(name: str):
    """An endpoint that answers with one file."""

    async def endpoint(request: Request) -> Response:
        return sent(request, name)

    return endpoint


async def asset(request: Request) -> Response:
    return sent(request, request.path_params["name"])


def sent(request: Request, name: str) -> Response:
    """The file of this name; 304 where the browser has it, 404 where there is none."""
    file = found(name)
    headers = HEADERS | {"ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.zipped and accepts_gzip(request.headers.get("accept-encoding", "")):
        zipped = headers | {"Content-Encoding": "gzip", "Content-Type": file.type}
        return Response(file.zipped, headers=zipped)
    return Response(file.plain, headers=headers | {"Content-Type": file.type})


def accepts_gzip(header: str) -> bool:
    """Whether a browser takes it compressed; `gzip;q=0` says no."""
    for part in header.lower().split(","):
        coding, _, quality = part.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "").rstrip("0.") != "q="
    return False


def found(name: str) -> File:
    """A file below `WEB`, read again when it has changed; 404 for any other, however its path is spelled."""
    root, kind = WEB.resolve(), TYPES.get(Path(name).suffix)
    try:
        path = (root / name).resolve()
        known = kind is not None and path.is_relative_to(root) and path.is_file()
    except (OSError, ValueError):  # a NUL, a name that is too long
        known = False
    if not known:
        raise HTTPException(404)
    return read(path, path.stat().st_mtime_ns, kind)


@lru_cache(256)
def read(path: Path, changed_ns: int, kind: str) -> File:
    plain = path.read_bytes()
    zipped = None if path.suffix in PACKED else gzip.compress(plain, 9, mtime=0)
    return File(plain, zipped, f'"{hashlib.sha256(plain).hexdigest()[:20]}"', kind)
