"""The pages for who sees little, hears them read, or has no mouse."""

import pytest
from chatting import answered, ask, send

pytestmark = pytest.mark.check
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
QUESTION = "How much is 47+85?"


def opened(visit, **options):
    page = visit("/", **options)
    page.get_by_role("combobox", name="Model").locator("option[value]:not([value=''])").first.wait_for(
        state="attached"
    )
    return page


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_of_the_chat_has_a_serious_fault(visit, accessible, scheme, size):
    page = opened(visit, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    accessible(page, "empty")
    article = ask(page, QUESTION)
    accessible(page, "answered")
    article.locator("summary").first.click()
    article.get_by_role("button", name="Tokens").click()
    article.locator(".token").first.wait_for()
    accessible(page, "tokens")
    for name in ("Settings", "Check", "Help"):
        page.get_by_role("button", name=name, exact=True).first.click()
        page.get_by_role("dialog").first.wait_for()
        accessible(page, name)
        page.keyboard.press("Escape")
    if size is DESK:
        for name in ("Search chats", "Export"):
            page.get_by_role("button", name=name, exact=True).first.click()
            page.get_by_role("dialog").first.wait_for()
            accessible(page, name)
            page.keyboard.press("Escape")
        page.get_by_role("button", name="Compare").click()
        accessible(page, "compare")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_verdict_and_its_spread_have_no_serious_fault(visit, accessible, scheme):
    page = opened(visit, color_scheme=scheme)
    page.get_by_role("button", name="Check", exact=True).click()
    page.get_by_role("group", name="Counting: levels").get_by_role("button").first.click()
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Ask 32 times").click()
    page.get_by_text("of 32 right").wait_for(timeout=60_000)
    accessible(page, "verdict")


def tab_to(page, name, role=None, most=60):
    """Tabs until what has this name is in focus; it has to be seen there."""
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate("""() => {
            const it = document.activeElement;
            const style = getComputedStyle(it);
            return [it.getAttribute("aria-label") ?? it.innerText ?? "", style.outlineStyle, style.boxShadow];
        }""")
        if found[0].strip() == name:
            assert found[1] != "none" or found[2] != "none", f"nothing shows that {name} is in focus"
            return
    raise AssertionError(f"no {name} by the Tab key")


def test_the_whole_journey_by_keyboard(visit):
    page = opened(visit)
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    page.get_by_role("textbox", name="Message").focus()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    answered(page)
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Regenerate")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Previous branch").first.wait_for()
    answered(page)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Previous branch")
    page.keyboard.press("Enter")
    assert page.get_by_role("group", name="Branches").first.inner_text().replace("\n", "").startswith("1")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Tokens")
    page.keyboard.press("Enter")
    token = page.locator(".token[tabindex='0']")
    token.wait_for()
    token.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Alternatives to this token").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Alternatives to this token").wait_for(state="hidden")
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "Edit")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("How much is 1+2?")
    page.keyboard.press("Enter")
    answered(page)


def test_problems_and_sheets_by_keyboard(visit):
    page = opened(visit)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Keyboard").wait_for(state="hidden")
    tab_to(page, "Check")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Check").wait_for()
    tab_to(page, "Weekday, level 1")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Check").wait_for(state="hidden")
    page.get_by_role("textbox", name="Message").focus()
    page.keyboard.press("Enter")
    page.get_by_role("region", name="Verdict").wait_for()
    for key, what in (("Control+k", "dialog"), ("Control+Shift+o", None)):
        page.keyboard.press(key)
        if what:
            page.get_by_role(what).first.wait_for()
            page.keyboard.press("Escape")
    page.get_by_role("article").first.wait_for(state="hidden")


def test_motion_rests_for_who_asked_for_it(visit):
    page = opened(visit, reduced_motion="reduce")
    send(page, QUESTION)
    answered(page)
    moving = page.evaluate("""() => document.getAnimations().filter(
        (each) => each.effect.getComputedTiming().duration > 1).length""")
    assert moving == 0
