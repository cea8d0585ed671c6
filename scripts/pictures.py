"""Takes the pictures of docs/pictures anew, of what ships and of the run that it is from.

    python -m scripts.pictures runs/evening        # needs the extra `browser`, and a Chromium

It serves the shelf and the run, visits the pages as a user would, and fails where something doesn't come.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.pages.conftest import ARGUMENTS, CHROMIUM, GREEDY, serving

PLACE = Path(__file__).parents[1] / "docs" / "pictures"
SIZE, LAB_SIZE = {"width": 1280, "height": 860}, {"width": 1440, "height": 900}
SECONDS = 60  # that anything may take to come
SHARP = 1.5  # pixels of the picture for one of the page
Picture = Callable[[Page, Path], None]


def chat(page: Page, place: Path) -> None:
    """What it was taught, and what its making scores and cost."""
    for text in ("How it was made", "A problem of any kind"):
        page.get_by_text(text).wait_for()
    page.screenshot(path=place / "chat.png")


def stages(page: Page, place: Path) -> None:
    """One problem, answered by all stages at once."""
    page.get_by_role("button", name="Ask all stages at once").click()
    ask(page, "Addition", place=1)
    page.get_by_role("region", name="Verdict").nth(3).wait_for()
    page.screenshot(path=place / "chat-stages.png")


def check(page: Page, place: Path) -> None:
    """A verdict, and the spread of 32 answers."""
    ask(page, "Countdown", place=0)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=PLACE)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        server = serving(Path(home), "--runs", args.run.resolve().parent)
        try:
            visit(f"{server.base}/", args.run.name, args.out)
        finally:
            server.kill()


def visit(base: str, run: str, place: Path) -> None:
    """Every picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for picture in (chat, stages):
            take(browser, picture, base, place)
        for picture in (check, tokens):
            take(browser, picture, base, place, dark=True)
        take(browser, lab, f"{base}lab#/{run}", place)


if __name__ == "__main__":
    main()
