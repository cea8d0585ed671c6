"""What a person does on the chat page, and a model that says what a test wants."""

import json
import re


def send(page, text):
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def ask(page, text):
    """Sends, and waits until the answer is whole; gives its article."""
    n = page.get_by_role("article", name="You").count()
    send(page, text)
    page.get_by_role("article", name="You").nth(n).wait_for()
    return answered(page)


def answered(page, model="evening"):
    """The last answer, once nothing streams any more."""
    page.get_by_role("button", name="Send").wait_for()
    last = page.get_by_role("article", name=model, exact=True).last
    last.get_by_role("button", name="Regenerate").wait_for()
    return last


def text_of(article):
    """The answer itself, without its thinking."""
    return article.locator(".prose").last.inner_text().strip()


def stub(page, text, thinking=""):
    """The model says `text` from now on, whatever it is asked."""

    def answer(route):
        route.fulfill(content_type="text/event-stream", body=events(text, thinking))

    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", answer)


def events(text, thinking=""):
    def chunk(delta, finish=None, **more):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({'choices': [choice], **more})}\n\n"

    said = [chunk({"reasoning_content": thinking})] if thinking else []
    said += [chunk({"content": part}) for part in re.findall(r"(?s).{1,7}", text)]
    usage = {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    end = chunk({}, "stop", usage=usage)
    return chunk({"role": "assistant", "content": ""}) + "".join(said) + end + "data: [DONE]\n\n"


def say(page, text):
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def done(page, n=1):
    """The last of `n` replies, when it has come to its end."""
    reply = page.locator(".reply").nth(n - 1)
    reply.locator(".facts:not(.live) .fact").first.wait_for()
    return reply


def button(where, name):
    return where.get_by_role("button", name=name, exact=True)
