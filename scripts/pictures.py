"""Takes the pictures of docs/pictures anew, of what ships and of the run that it is from.

    python scripts/pictures.py runs/evening        # needs playwright, and a Chromium (or NOMOAT_CHROMIUM)

It serves the shelf beside the directory of the run, visits the pages as a user would, and fails where
something doesn't come.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

PLACE = Path(__file__).parents[1] / "docs" / "pictures"
CHROMIUM = os.environ.get("NOMOAT_CHROMIUM") or shutil.which("chromium")
SIZE, LAB_SIZE = {"width": 1280, "height": 860}, {"width": 1440, "height": 900}
SECONDS = 60  # that anything may take to come
SHARP = 1.5  # pixels of the picture for one of the page
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/(?!v1)")
Picture = Callable[[Page, Path], None]
GREEDY = "localStorage.setItem('nomoat.settings', '{\"temperature\": 0}')"


def chat(page: Page, place: Path) -> None:
    """What it was taught, and what its making scores and cost."""
    page.get_by_text("How it was made").wait_for()
    page.screenshot(path=place / "chat.png")


def stages(page: Page, place: Path) -> None:
    """One problem, answered by all stages at once."""
    page.get_by_role("button", name="Ask all stages at once").click()
    ask(page, "Addition", place=1)
    page.get_by_role("region", name="Verdict").nth(3).wait_for()
    page.screenshot(path=place / "chat-stages.png")


def check(page: Page, place: Path) -> None:
    """A verdict, and the spread of 32 answers."""
    ask(page, "Path", place=2)
    page.get_by_role("button", name="Ask 32 times").click()
    page.get_by_text("of 32 right").wait_for()
    page.screenshot(path=place / "chat-check.png")


def tokens(page: Page, place: Path) -> None:
    """What else could have stood in the place of a token, and where it went."""
    page.get_by_role("textbox", name="Message").fill("Hello! What can you do?")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Tokens").click()
    page.locator(".token").first.click()
    page.get_by_role("dialog", name="Alternatives to this token").wait_for()
    page.screenshot(path=place / "chat-tokens.png")


def ask(page: Page, family: str, place: int) -> None:
    """A problem of the level in this place of the list, and its verdict."""
    page.get_by_role("button", name="Check", exact=True).click()
    levels = page.get_by_role("group", name=f"{family}: levels")
    levels.get_by_role("button").nth(place).click()
    page.get_by_role("button", name="Send").click()
    page.get_by_role("region", name="Verdict").first.wait_for()


def lab(page: Page, place: Path) -> None:
    """A run, its stages, and one problem through all of them."""
    page.get_by_text("One problem, every stage").wait_for()
    page.screenshot(path=place / "lab-run.png")


def take(browser: Browser, picture: Picture, address: str, place: Path, *, dark: bool = False) -> None:
    """A picture of a page of its own."""
    wide = picture is lab
    context = browser.new_context(
        viewport=LAB_SIZE if wide else SIZE,
        device_scale_factor=1 if wide else SHARP,
        color_scheme="dark" if dark else "light",
    )
    context.add_init_script(GREEDY)
    page = context.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.goto(address)
    picture(page, place)
    context.close()


@contextmanager
def served(cwd: Path) -> Iterator[str]:
    """The address of a server that ends behind it."""
    command = [sys.executable, "-m", "nomoat", "serve", "--port", "0"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command, cwd=cwd, **streams)
    try:
        yield next(found[0] for line in server.stderr if (found := ADDRESS.search(line)))
    finally:
        server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=PLACE)
    args = parser.parse_args()
    run = args.run.resolve()
    with served(run.parent.parent) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for picture in (chat, stages):
            take(browser, picture, base, args.out)
        for picture in (check, tokens):
            take(browser, picture, base, args.out, dark=True)
        take(browser, lab, f"{base}lab#/{run.name}", args.out)


if __name__ == "__main__":
    main()
