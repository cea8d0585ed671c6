"""The chat page in a browser: streams, branches, tokens, checks, comparison, history, the server away."""

import json
import re

import pytest
from chatting import button, done, say

pytestmark = pytest.mark.check


def test_an_answer_streams_and_survives_a_reload_with_its_branches(chat):
    page = chat()
    say(page, "What is 12+30?")
    first = done(page)
    assert first.get_attribute("aria-label") == "evening"
    assert page.get_by_role("log").is_visible()
    said = first.locator(".prose").inner_text()
    button(first, "Regenerate").click()
    page.get_by_text("2 of 2").wait_for()
    assert done(page).locator(".prose").inner_text() == said  # temperature 0
    button(page, "Previous branch").click()
    page.get_by_text("1 of 2").wait_for()
    page.reload()
    page.get_by_text("1 of 2").wait_for()
    assert page.locator(".prose").inner_text() == said
    assert page.get_by_role("article", name="You").inner_text().startswith("What is 12+30?")


def test_an_edited_question_is_a_branch(chat):
    page = chat()
    say(page, "What is 12+30?")
    done(page)
    page.get_by_role("textbox", name="Message").press("ArrowUp")
    page.get_by_role("textbox", name="Edit").fill("What is 50+31?")
    page.keyboard.press("Enter")
    page.locator(".asked-text", has_text="50+31").wait_for()
    done(page)
    page.locator(".asked").hover()
    button(page.locator(".asked"), "Previous branch").click()
    page.locator(".asked-text", has_text="12+30").wait_for()


def test_a_token_shows_its_alternatives_and_one_of_them_goes_another_way(chat):
    page = chat()
    say(page, "What is 12+30?")
    button(done(page), "Tokens").click()
    tokens = page.locator(".token")
    tokens.first.wait_for()
    text = "".join(tokens.all_text_contents())
    tokens.nth(2).click()
    page.locator(".floating .expert-figure rect.fired").first.wait_for()  # the model routes
    other = page.locator(".alternative:not(.taken)").first
    word = other.locator("code").inner_text()
    with page.expect_request("**/v1/chat/completions") as asked:
        other.click()
    assert len(asked.value.post_data_json["reply_tokens"]) >= 3
    page.get_by_text("2 of 2").wait_for()
    button(done(page), "Tokens").click()
    tokens.first.wait_for()
    again = "".join(tokens.all_text_contents())
    begin = "".join(page.locator(".token").all_text_contents()[:2])
    assert again != text
    assert text.startswith(begin)
    assert word.strip("␣") in again


def test_the_verifier_says_right_and_wrong_and_many_tries_show_their_spread(chat):
    page = chat()
    button(page, "Check").click()
    button(page, "Addition, level 1").click()
    page.locator(".card .chip").wait_for()
    button(page, "Send").click()
    page.get_by_role("region", name="Verdict").wait_for()
    button(page, "Ask 32 times").click()
    page.locator(".spread").wait_for()
    counts = [int(re.match(r"\d+", text)[0]) for text in page.locator(".bars .number").all_text_contents()]
    assert sum(counts) <= 32
    assert page.locator(".passes > div").count() == 6
    wrong = {"right": False, "lenient": False, "expected": "7", "why": "wrong"}
    page.route("**/api/verdict", lambda route: route.fulfill(json=wrong))
    button(page.locator(".reply"), "Regenerate").click()
    page.locator(".verdict.wrong", has_text="Expected 7").wait_for()


def test_the_stages_of_a_run_answer_side_by_side(chat):
    page = chat()
    button(page, "Compare").click()
    assert button(page, "Stages").get_attribute("aria-pressed") == "true"
    say(page, "What is 12+30?")
    page.locator(".lane").nth(3).locator(".facts:not(.live) .fact").first.wait_for()
    names = page.locator(".lane .speaker").all_text_contents()
    assert names == ["Base", "Cold start", "RL", "Distilled"]
    assert page.locator(".lane .score-bar").count() == 4
    assert page.locator(".lane-head", has_text="min").count() >= 3  # what each took


def test_stop_is_at_once_and_continue_goes_on_from_there(slow):
    page = slow(text="word " * 400, ms=10)
    say(page, "Go")
    page.get_by_text("word word word").first.wait_for()
    page.keyboard.press("Escape")
    page.locator(".facts", has_text="stopped").wait_for()
    at_stop = page.evaluate("window.sent")
    prose = page.locator(".prose").inner_text()
    page.wait_for_timeout(200)
    assert page.evaluate("window.sent") == at_stop
    assert page.locator(".prose").inner_text() == prose
    button(page, "Continue").click()
    page.locator(".facts", has_text=re.compile("^(?!.*stopped)")).wait_for()
    page.wait_for_timeout(50)
    assert page.evaluate("window.asked[1].reply_tokens.length") == at_stop
    assert page.locator(".prose").inner_text().startswith(prose)


def test_thinking_folds_and_can_be_ended(slow):
    page = slow(think="hmm " * 2000, text="so", ms=10)
    page.route("**/api/inspect", lambda route: route.fulfill(json={"tokens": [], "end_thinking_id": 99}))
    say(page, "Go")
    page.locator(".thinking.now").wait_for()
    assert not page.locator(".thought-text").is_visible()
    button(page, "End thinking").click()
    page.locator(".prose", has_text="so").wait_for()
    assert page.evaluate("window.asked[1].reply_tokens.at(-1)") == 99
    assert page.locator(".thinking", has_text="Thought").is_visible()


def test_growing_text_never_draws_again_what_is_whole(slow):
    page = slow(text="One.\n\n" + "```\ncode\n```\n\n" + "Two words " * 60 + "\n\n- a\n\n- b\n\nEnd.", ms=2)
    say(page, "Go")
    page.locator(".piece").nth(1).wait_for()
    page.evaluate("for (const piece of document.querySelectorAll('.piece')) piece.firstChild.marked = true")
    page.locator(".prose", has_text="End.").wait_for()
    done(page)
    each = "[...document.querySelectorAll('.piece')].map((piece) => piece.firstChild.marked === true)"
    marked = page.evaluate(each)
    assert marked[0] is True
    assert len(marked) == 5
    assert not marked[-1]
    assert page.locator(".prose ul").count() == 1


def test_a_hundred_thousand_tokens_stay_smooth(slow):
    page = slow(text="")
    text = "\n\n".join(f"Paragraph {n} with **bold** and `code` and some more words." * 3 for n in range(250))
    nodes, parent = {}, None
    for n in range(8):
        asked, reply = f"u{n}", f"a{n}"
        user = {"role": "user", "parent": parent, "text": f"Question {n}", "models": ["evening"]}
        model = {"role": "assistant", "parent": asked, "model": "evening", "text": text, "finish": "stop"}
        nodes[asked] = {"id": asked, "created": 2 * n + 1, **user}
        nodes[reply] = {"id": reply, "created": 2 * n + 2, "n": 12_500, **model}
        parent = reply
    file = {"format": "nomoat-chats", "chats": [{"title": "long", "nodes": nodes, "chosen": {}}]}
    button(page, "Export").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "long.json", "mimeType": "application/json", "buffer": json.dumps(file).encode()}
    )
    page.locator(".turn").nth(7).wait_for()
    frames = page.evaluate(SCROLL)
    assert sorted(frames)[len(frames) // 2] < 100, frames


SCROLL = """async () => {
  const scroller = document.querySelector(".scroller"), frames = [];
  let last = performance.now();
  for (let n = 0; n < 60; n += 1) {
    scroller.scrollTop = (scroller.scrollHeight * ((n * 37) % 60)) / 60;
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  return frames;
}"""


def test_what_was_said_is_found_and_goes_out_and_in_again(slow):
    page = slow(text="The word is **plumtree**.", ms=0)
    say(page, "Tell me")
    done(page)
    button(page, "Export").click()
    with page.expect_download() as taken:
        page.get_by_role("button", name="JSON With").click()
    path = taken.value.path()
    page.locator("input[type=file]").set_input_files(
        {"name": "chat.json", "mimeType": "application/json", "buffer": path.read_bytes()}
    )
    page.get_by_text("1 chat imported").wait_for()
    assert page.locator(".chat-row").count() == 2
    page.keyboard.press("Control+k")
    page.get_by_role("searchbox").fill("PLUMTREE")
    page.locator(".hit mark").first.wait_for()
    assert page.locator(".hit").count() == 2
    page.keyboard.press("Enter")
    assert page.locator(".prose strong").inner_text() == "plumtree"
    button(page, "Export").click()
    with page.expect_download() as taken:
        page.get_by_role("button", name="HTML One").click()
    written = taken.value.path().read_text("utf-8")
    assert "<strong>plumtree</strong>" in written
    assert "<script" not in written


def test_german_and_dark_are_kept(chat):
    page = chat()
    button(page, "Theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    button(page, "Language: DE").click()
    page.get_by_role("textbox", name="Nachricht").wait_for()
    root = page.locator("html")
    assert (root.get_attribute("lang"), root.get_attribute("data-theme")) == ("de", "dark")


def test_the_server_goes_and_comes_back(launch, visit, watch):
    server = launch()
    page = visit("/", server=server)
    say(page, "What is 12+30?")
    done(page)
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    server.kill()
    say(page, "What is 12+31?")
    page.get_by_text("The server is away").wait_for()
    page.reload()
    page.get_by_text("The server is away").first.wait_for()
    assert page.locator(".asked-text").first.inner_text() == "What is 12+30?"  # history is here
    launch("--port", server.port)
    page.get_by_text("The server is back").wait_for(timeout=60_000)
    done(page, 2)  # what was asked meanwhile is answered
    watch.errors.clear()


def test_nothing_is_wider_than_the_page(chat):
    page = chat(viewport={"width": 320, "height": 700})
    assert page.evaluate(OVER) == [0, 0]
    button(page, "Compare").click()
    say(page, "What is 12+30?")
    page.locator(".lane").nth(3).locator(".facts:not(.live) .fact").first.wait_for()
    for width in (320, 390, 768, 1440, 2560):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(OVER) == [0, 0], width


OVER = """() => [document.documentElement, document.querySelector(".scroller")]
  .map((element) => element.scrollWidth - element.clientWidth)"""
