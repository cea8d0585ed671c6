"""One problem asked many times: how the answers spread, and how many are right."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nomoat.config import JsonObject
from nomoat.serve import fields, openai
from nomoat.serve.answer import Desk, deltas, usage_of
from nomoat.serve.asked import Asked, Choice
from nomoat.serve.pages.bodies import AskBody
from nomoat.serve.refusal import Refusal
from nomoat.serve.responses import renamed
from nomoat.serve.shelf import Served
from nomoat.stats import pass_at_k, wilson
from nomoat.tasks.base import Problem, Task
from nomoat.tasks.verdicts import Verdict, Verdicts
from nomoat.tokenizer import layout

MOST_TOKENS = 2048  # of a reply
PASSES = (1, 2, 4, 8, 16, 32)
MARKS = ("<think>", "</think>")
RENAMED = {"enable_thinking": "thinking", "messages": "family"}  # fields of the chat -> of this route


def asked_of(body: AskBody, problem: Problem, served: Served) -> Asked:
    """`n` replies to a problem, keyed by its seed: the same ones each time.  Refusal as a chat's."""
    turns = layout.turns(problem.prompt, problem.facts)
    table = {
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "temperature": body.temperature,
        "enable_thinking": body.thinking,
        "seed": body.seed,
        "max_tokens": MOST_TOKENS,
    }
    try:
        asked = openai.chat(fields.parse(fields.ChatBody, table), served)
    except Refusal as refusal:
        raise renamed(refusal, RENAMED) from None
    return replace(asked, requests=(replace(asked.requests[0], n=body.n),))


async def choices_of(desk: Desk, served: Served, asked: Asked) -> list[Choice]:
    """The replies; those that take longer than the server allows are cut."""
    choices = [Choice() for _ in range(asked.requests[0].n)]
    usage = usage_of(asked)
    with (
        desk.metrics.answering(served.name, usage),
        desk.worker.queue(served.engine, asked.requests, desk.seconds) as job,
    ):
        async for delta in deltas(job, asked, served, usage):
            choices[delta.choice].add(delta)
    return choices


def verdicts_of(task: Task, problem: Problem, choices: Sequence[Choice]) -> list[Verdict]:
    """What the verifier says of each reply; one that was cut has given no answer."""
    with Verdicts() as verdicts:
        ended = [choice.finish != "length" for choice in choices]
        said = (verdicts.verdict(task, problem, reply_of(choice), ended=True) for choice in choices)
        return [verdict if whole else Verdict() for verdict, whole in zip(said, ended)]


def reply_of(choice: Choice) -> str:
    """The reply as verifiers read it, its thinking between marks."""
    opened, closed = MARKS
    return f"{opened}{choice.thinking}{closed}{choice.answer}" if choice.thinking else choice.answer


def spread(verdicts: Sequence[Verdict]) -> JsonObject:
    """How many gave which answer, pass@k, the majority, and a 95 % interval of the share that is right.

    An answer is None where a reply holds none in the right form.
    """
    n, right = len(verdicts), sum(verdict.strict for verdict in verdicts)
    counts = Counter((verdict.answer, verdict.strict) for verdict in verdicts)
    listed = [
        {"answer": answer, "count": count, "right": strict}
        for (answer, strict), count in counts.most_common()
    ]
    given = [each for each in listed if each["answer"] is not None]
    majority = {"answer": given[0]["answer"], "right": given[0]["right"]} if given else None
    return {
        "n": n,
        "answers": listed,
        "right": right,
        "pass_at": {str(k): pass_at_k(n, right, k) for k in PASSES if k <= n},
        "majority": majority,
        "interval": [*wilson(right, n)],
    }


async def ask(desk: Desk, served: Served, task: Task, problem: Problem, asked: Asked) -> JsonObject:
    """All of it, with the seconds that it took."""
    began = time.perf_counter()
    choices = await choices_of(desk, served, asked)
    verdicts = await asyncio.to_thread(verdicts_of, task, problem, choices)
    return spread(verdicts) | {"seconds": time.perf_counter() - began}
