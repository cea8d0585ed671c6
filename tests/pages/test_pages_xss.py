"""Text that would run, as a model's, as a history that is imported, and in the file that is exported."""

import json
import re

import pytest
from chatting import answered, send, stub
from payloads import payloads

pytestmark = pytest.mark.check
PAYLOADS = payloads()
SENTINEL = (
    "window.ran = []; for (const name of ['alert', 'print', 'confirm']) window[name] = () => ran.push(name);"
)
HARMFUL = """() => {
    const own = [...document.querySelectorAll("script, style, link, iframe, object, embed, base, meta, form")]
        .filter((each) => each.closest("article, nav, main, dialog"));
    const handlers = [...document.querySelectorAll("article *, nav *, main *")].filter(
        (each) => [...each.attributes].some(({ name }) => name.startsWith("on") || name === "srcdoc"));
    const links = [...document.querySelectorAll("article a, main a, math [href]")].filter(
        (each) => !/^(https?:|mailto:|#|\\/)/i.test(each.getAttribute("href") ?? "#"));
    return [...own, ...handlers, ...links].map((each) => each.outerHTML.slice(0, 200));
}"""
PROVOKE = """() => {
    for (const each of document.querySelectorAll("article *, nav button, main *")) {
        for (const name of ["mouseover", "focus", "toggle", "pointerenter", "animationstart"])
            each.dispatchEvent(new Event(name));
    }
}"""


def unharmed(page):
    page.evaluate(PROVOKE)
    assert page.evaluate("window.ran") == []
    assert page.evaluate(HARMFUL) == []


@pytest.fixture
def page(visit):
    page = visit("/", before=lambda page: page.add_init_script(SENTINEL), service_workers="block")
    page.get_by_role("combobox", name="Model").locator("option[value]:not([value=''])").first.wait_for(
        state="attached"
    )
    return page


def test_there_are_enough_and_the_sentinel_hears_one_that_runs(page):
    assert len(PAYLOADS) >= 150
    page.evaluate("document.addEventListener('keydown', () => alert(1), { once: true })")
    page.keyboard.press("a")
    assert page.evaluate("window.ran") == ["alert"]


def test_no_text_of_a_model_runs(page):
    for n, text in enumerate(PAYLOADS):
        stub(page, text, thinking=text if n % 3 == 0 else "")
        send(page, text if n % 2 else "go on")
        answered(page)
        if n % 10 == 9:
            assert "alert" in page.get_by_role("log").inner_text()
            unharmed(page)
            page.get_by_role("button", name="New chat").first.click()
    unharmed(page)


def history() -> dict:
    """A conversation with a payload in every field that has room for one."""
    nodes, parent = {}, None
    for n, text in enumerate(PAYLOADS):
        asked, reply = f"a{n}", f"r{n}"
        check = {"family": text, "level": text, "seed": text, "lang": text}
        verdict = {"right": n % 2 == 0, "lenient": False, "expected": text, "why": text, "rule": text}
        nodes[asked] = {"id": asked, "role": "user", "parent": parent, "text": text, "models": [text],
                        "check": check, "created": 1e12}  # fmt: skip
        nodes[reply] = {"id": reply, "role": "assistant", "parent": asked, "model": text, "text": text,
                        "thinking": text, "finish": text, "n": text, "verdict": verdict, "created": 1e12,
                        "spread": {"answers": [{"answer": text, "count": 1, "right": True}]},
                        "thought": {"tokens": text, "seconds": 1},
                        "timings": {"joules_source": text}}  # fmt: skip
        parent = reply
    titled = [
        {"id": f"t{n}", "title": text, "created": 1e12, "nodes": {"a0": {**nodes["a0"], "text": text}}}
        for n, text in enumerate(PAYLOADS)
    ]
    whole = {"id": "whole", "title": PAYLOADS[0], "created": 1e12, "nodes": nodes, "chosen": {}}
    return {"format": "nomoat-chats", "version": 1, "chats": [whole, *titled]}


def test_no_history_runs_and_no_file_that_is_exported(page):
    page.get_by_role("button", name="Export").click()
    file = {"name": "chats.json", "mimeType": "application/json", "buffer": json.dumps(history()).encode()}
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("chats imported").first.wait_for()
    page.reload()
    page.get_by_role("article").first.wait_for()
    unharmed(page)
    for article in page.get_by_role("article").all()[::20]:
        article.scroll_into_view_if_needed()
        unharmed(page)
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.locator("button.way", has_text="HTML").click()
    html = download.value.path().read_text("utf-8")
    show(page, html)
    assert page.locator("section").count() > len(PAYLOADS)
    unharmed(page)


def show(page, html):
    """The exported file, without the policy that would hold it back."""
    policy = re.search(r"<meta http-equiv=.Content-Security-Policy.[^>]*>", html)[0]

    def answer(route):
        route.fulfill(content_type="text/html", body=html.replace(policy, ""))

    page.route("**/exported.html", answer)
    page.goto("/exported.html")
