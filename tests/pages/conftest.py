"""A real server with what ships, and a real Chromium that visits it.

A test of a page fails, whatever it is about, where the page logged an error, broke the policy of its server,
or asked anyone but this server.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("NOMOAT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path(os.environ.get("NOMOAT_AXE", Path(sys.prefix) / "pages/node_modules/axe-core/axe.min.js"))
OURS = re.compile(r"(data|blob|about):")  # requests that go nowhere
GREEDY = "localStorage.setItem('nomoat.settings', '{\"temperature\": 0}')"
FAKE = Path(__file__).with_name("fake_stream.js").read_text("utf-8")
SECONDS = 20  # that a test waits for what a page is to show


@dataclass
class Server:
    """`nomoat serve` in a process of its own."""

    base: str  # http://127.0.0.1:PORT
    process: subprocess.Popen

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Watch:
    """What no page may do; a test that makes it happen takes it out again."""

    errors: list[str] = field(default_factory=list)
    offsite: list[str] = field(default_factory=list)

    def over(self, context, base: str) -> None:
        context.on("console", lambda told: told.type == "error" and self.errors.append(told.text))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("request", lambda asked: self.asked(asked.url, base))

    def asked(self, url: str, base: str) -> None:
        if not url.startswith(f"{base}/") and not OURS.match(url):
            self.offsite.append(url)


def serving(here: Path, *argv: object) -> Server:
    """A server in this directory; what it says on stderr goes to a file there."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    port = () if "--port" in argv else ("--port", "0")
    command = [sys.executable, "-m", "nomoat", "serve", *map(str, argv), *port]
    with (here / "stderr").open("ab") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=env, cwd=here)
    address = process.stdout.readline().strip()
    assert address.endswith("/v1"), (here / "stderr").read_text()
    return Server(address.removesuffix("/v1"), process)


@pytest.fixture(scope="session")
def launch(tmp_path_factory) -> Iterator[Callable[..., Server]]:
    """launch(*arguments of `nomoat serve`) -> a server that answers; all end with the tests."""
    started = []

    def start(*argv: object, cwd: Path | None = None) -> Server:
        server = serving(cwd or tmp_path_factory.mktemp("server"), *argv)
        started.append(server.process)
        return server

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def server(launch) -> Server:
    """What `nomoat serve` without a name gives."""
    return launch()


@pytest.fixture(scope="session")
def chromium():
    """A headless browser; skips where there is none, or nothing to drive it with."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("no playwright: pip install 'nomoat[browser]'")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH, nor in $NOMOAT_CHROMIUM: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Checked when the test is over."""
    it = Watch()
    yield it
    assert not it.errors
    assert not it.offsite


@pytest.fixture
def visit(chromium, watch, request):
    """visit(path, server=…, **options of the context: viewport, color_scheme, …) -> a page, opened."""
    contexts = []

    def open_page(path: str = "/", server: Server | None = None, *, before=None, **options):
        base = (server or request.getfixturevalue("server")).base
        context = chromium.new_context(base_url=base, **{"locale": "en-GB", **options})
        context.set_default_timeout(SECONDS * 1000)
        watch.over(context, base)
        contexts.append(context)
        page = context.new_page()
        if before is not None:
            before(page)  # routes and scripts that have to be there first
        page.goto(path, wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def accessible():
    """accessible(page): fails where axe-core finds something serious in what is shown now."""
    if not AXE.is_file():
        pytest.skip(f"no axe-core at {AXE}: make check installs it where there is npm")
    source = AXE.read_text("utf-8")

    def check(page, where: str = "") -> None:
        page.evaluate(f"() => {{ if (!window.axe) {{ {source} }} }}")
        run = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
        found = [each for each in page.evaluate(run) if each["impact"] in ("serious", "critical")]
        told = [
            f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes'][:3]]}"
            for each in found
        ]
        assert not told, (where, told)

    return check


@pytest.fixture
def chat(visit):
    """The chat page, opened and ready; its answers are quick and always the same."""

    def opened(**options):
        page = visit("/", before=lambda page: page.add_init_script(GREEDY), **options)
        page.locator(".empty").wait_for()
        return page

    return opened


@pytest.fixture
def slow(visit):
    """The page with an answer of the test's own, a token at a time: slow(text=, think=, ms=)."""

    def opened(**fake):
        told = f"window.fake = {json.dumps(fake)};\n{FAKE}"
        page = visit("/", before=lambda page: page.add_init_script(told))
        page.locator(".empty").wait_for()
        return page

    return opened
