"""Files of the pages: what is sent, to whom, and what never is."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
from serving import made, running

from nomoat.serve.limits import Doors
from nomoat.serve.pages import static

VENDOR = static.WEB / "vendor"
KEY = frozenset({hashlib.sha256(b"a key that is long enough").digest()})
FILES = sorted(path for path in static.WEB.rglob("*") if path.is_file())
LIBRARIES = json.loads((VENDOR / "vendor.json").read_text())["libraries"]


@pytest.fixture(scope="module")
def client():
    with running(made(), Doors(keys=KEY), static=static.routes()) as it:
        yield it


def test_every_file_is_sent_as_it_lies_there_without_a_key(client):
    for path in FILES:
        asked = f"/assets/{path.relative_to(static.WEB)}"
        status, headers, body = client.raw("GET", asked)
        assert (status, body) == (200, path.read_bytes()), asked
        assert headers["content-type"] == static.TYPES[path.suffix]
        status, zipped, body = client.raw("GET", asked, headers={"Accept-Encoding": "br, gzip"})
        packed = zipped["content-encoding"] == "gzip"
        assert packed is (path.suffix not in static.PACKED)
        assert (gzip.decompress(body) if packed else body) == path.read_bytes()
        assert zipped["etag"] == headers["etag"]


@pytest.mark.parametrize(("path", "name"), static.PAGES.items())
def test_pages_stand_at_their_own_paths(client, path, name):
    if not (static.WEB / name).exists():
        pytest.skip(f"no {name} yet")
    status, headers, body = client.raw("GET", path)
    assert (status, body) == (200, (static.WEB / name).read_bytes())
    assert headers["content-type"] == static.TYPES[f".{name.rpartition('.')[2]}"]


def test_every_answer_carries_the_policy(client):
    status, headers, _ = client.raw("GET", "/")
    again, later, nothing = client.raw("GET", "/", headers={"If-None-Match": headers["etag"]})
    assert (status, again, nothing) == (200, 304, b"")
    for each in (headers, later):
        assert {name: each[name] for name in static.HEADERS} == static.HEADERS
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("header", "zipped"),
    [("gzip", True), ("GZIP;q=0.5, br", True), ("gzip;q=0", False), ("gzip; q=0.0", False), ("br", False),
     ("", False), ("x-gzip-not", False), ("deflate, gzip;q=1.0", True)],
)  # fmt: skip
def test_who_does_not_take_gzip_gets_none(header, zipped):
    assert static.accepts_gzip(header) is zipped


@pytest.mark.parametrize(
    "path",
    ["../static.py", "..%2fstatic.py", "%2e%2e/%2e%2e/app.py", "/etc/passwd", "%2fetc%2fpasswd", "vendor", "",
     "vendor/", "vendor/..", "index.html%00.js", "none.js", "a" * 5000 + ".js", "..\\static.py", ".", "index",
     "vendor/../../../shelf/evening/shelf.json", "%252e%252e/static.py", "~/.ssh/id.txt"],
)  # fmt: skip
def test_nothing_else_is_sent(client, path):
    status, _, body = client.raw("GET", f"/assets/{path}")
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")


def test_a_link_that_leads_out_is_none(tmp_path, monkeypatch):
    (tmp_path / "web").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "web" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(static, "WEB", tmp_path / "web")
    with pytest.raises(static.HTTPException):
        static.found("link.txt")


def test_a_file_that_changes_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(static, "WEB", tmp_path)
    (tmp_path / "a.js").write_text("one")
    first = static.found("a.js")
    (tmp_path / "a.js").write_text("other")
    assert (static.found("a.js").plain, static.found("a.js").etag) != (first.plain, first.etag)


def test_vendored_files_are_the_locked_bytes_and_no_others():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    found.pop("vendor.json")
    assert {file["file"]: file["sha256"] for each in LIBRARIES for file in each["files"]} == found


def test_each_vendored_library_says_whose_it_is(pytestconfig):
    table = (pytestconfig.rootpath / "DATA.md").read_text("utf-8")
    for each in LIBRARIES:
        assert each["licence"] in ("MIT", "Apache-2.0", "BSD-3-Clause")
        assert (VENDOR / f"{each['name']}.LICENSE.txt").stat().st_size > 1000
        row = f"| {each['name']} | {each['version']} | {each['licence']} |"
        assert row in table
        assert each["integrity"] in table


@pytest.mark.check
def test_vendored_files_are_what_npm_has(pytestconfig):
    if shutil.which("npm") is None or subprocess.run(["npm", "ping"], capture_output=True).returncode:
        pytest.skip("no npm, or its registry can't be reached")
    command = [sys.executable, "scripts/vendor.py", "--check"]
    env = {**os.environ, "PYTHONPATH": str(pytestconfig.rootpath)}
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_pages_load_is_small():
    sent = [path for path in FILES if path.suffix not in (".txt", ".png")]
    assert sum(len(static.found(str(path)).zipped or path.read_bytes()) for path in sent) < 250_000
