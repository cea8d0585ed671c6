"""Chats beside each other: one that is answered while another is open, two tabs, keys, the first moments."""

import pytest
from chatting import button, done, say

pytestmark = pytest.mark.check


def test_an_answer_goes_on_while_another_chat_is_open(slow):
    page = slow(text="word " * 40, ms=60)
    say(page, "the first chat")
    page.locator(".reply.running .prose").get_by_text("word").first.wait_for()
    page.keyboard.press("Control+Shift+o")
    page.locator(".empty").wait_for()
    chats = page.get_by_role("navigation", name="Chats")
    chats.get_by_role("img", name="is being answered").wait_for()
    assert button(page, "Send").is_disabled()  # nothing runs here
    chats.get_by_role("img", name="is being answered").wait_for(state="detached")
    chats.get_by_role("button", name="the first chat", exact=True).click()
    assert done(page).locator(".prose").inner_text().split() == ["word"] * 40


def test_a_chat_that_is_removed_while_it_is_answered_stays_away(slow):
    page = slow(text="word " * 400, ms=60)
    say(page, "soon gone")
    page.locator(".reply.running .prose").get_by_text("word").first.wait_for()
    chats = page.get_by_role("navigation", name="Chats")
    chats.get_by_role("button", name="soon gone", exact=True).hover()
    button(chats, "Delete soon gone").click()
    button(page.get_by_role("dialog"), "Delete").click()
    page.locator(".empty").wait_for()
    page.reload()
    page.locator(".empty").wait_for()
    assert page.locator(".chat-row").count() == 0


def test_a_tab_keeps_its_chat_and_lists_those_of_others(chat):
    page = chat()
    say(page, "What is 1+2?")
    done(page)
    other = page.context.new_page()
    other.goto("/")
    done(other)  # a new tab begins with the last chat
    other.keyboard.press("Control+Shift+o")
    say(other, "What is 3+4?")
    done(other)
    page.locator(".chat-row").nth(1).wait_for()
    page.reload()
    done(page)
    assert page.locator(".asked-text").inner_text() == "What is 1+2?"


def test_before_the_models_are_known_nothing_is_said_to_be_missing(visit):
    held = []

    def hold(route):
        held.append(route)

    page = visit("/", before=lambda page: page.route("**/api/models", hold))
    page.get_by_text("Loading").wait_for()
    assert page.get_by_text("No model is served").count() == 0
    held.pop().continue_()
    page.locator(".empty").wait_for()


def test_one_escape_leaves_the_search(chat):
    page = chat()
    page.keyboard.press("Control+k")
    page.get_by_role("searchbox").fill("words")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_a_wrong_key_is_told_so(visit, launch, tmp_path, watch):
    (tmp_path / "keys").write_text("sesame-0123456789-0123456789-0123456789\n")
    page = visit("/", launch("--keys", tmp_path / "keys"))
    label = page.get_by_role("textbox", name="API key")
    label.fill("another")
    label.press("Enter")
    page.get_by_text("The server does not know this key.").wait_for()
    page.keyboard.press("Escape")
    button(page, "Try again").click()
    label.fill("sesame-0123456789-0123456789-0123456789")
    label.press("Enter")
    page.locator(".empty").wait_for()
    watch.errors[:] = [error for error in watch.errors if "401" not in error]


@pytest.mark.parametrize(("locale", "words"), [("en-GB", "lamp"), ("de-DE", "Lampe")])
def test_what_to_try_is_in_the_language_of_the_page_and_judged(chat, locale, words):
    page = chat(locale=locale)
    page.locator(".example").filter(has_text=words).click()
    page.locator(".verdict .seal").wait_for()
