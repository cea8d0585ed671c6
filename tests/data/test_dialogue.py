"""Laws of conversations of several turns: what is trained, what stands before, what has no room."""

import itertools
import random

import pytest

from nomoat.data import documents
from nomoat.data.dialogue import MOST_EARLIER, dialogues, earlier
from nomoat.tasks import base, find
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import Message, render, render_latest, turns

LEVELS = {"addition": [2], "sorting": [3, 4]}


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(
        ["What is 17+25? Sort these letters, with spaces: h q r Hello, I am nomoat."] * 3, 300
    )


def take(n, chains=0.5, seed=0):
    return list(itertools.islice(dialogues(LEVELS, chains, seed), n))


def test_the_same_seed_gives_the_same_dialogues():
    assert take(50) == take(50)
    assert take(50) != take(50, seed=1)


def test_a_dialogue_is_turns_and_only_its_last_reply_may_show_a_chain():
    talks = take(400)
    for talk in talks:
        assert [turn.role for turn in talk] == ["user", "assistant"] * (len(talk) // 2)
        assert all(not turn.thinking for turn in talk[:-1])
    assert {len(talk) // 2 for talk in talks} == set(range(2, MOST_EARLIER + 2))
    problems = [
        talk[-1] for talk in talks if talk[-1].thinking or talk[-1].content.strip().isdigit()
    ]
    assert 0.35 < sum(reply.thinking is not None for reply in problems) / len(problems) < 0.75


def test_problems_before_are_answered_right_and_of_their_side_of_the_split():
    keys = {split: set() for split in ("train", "eval")}
    for split, seen in keys.items():
        for seed in range(30):
            before = earlier(LEVELS, random.Random(seed), split)
            seen |= {turn.content for turn in before if turn.role == "user"}
    prompts = {
        split: {
            p.prompt
            for family, levels in LEVELS.items()
            for level in levels
            for p in itertools.islice(
                base.problems(find.find(family), level, split=split, seed=1), 400
            )
        }
        for split in keys
    }
    assert not keys["train"] & prompts["eval"]
    assert not keys["eval"] & prompts["train"]
    assert len(earlier(LEVELS, random.Random(0), "train", 3)) == 6


def test_an_earlier_answer_is_not_trained_and_earlier_talk_is(tokenizer):
    problem = next(base.problems(find.find("addition"), 2, split="train", seed=0))
    before = [Message("user", problem.prompt), Message("assistant", problem.witness, "")]
    said = [Message("user", "Hello"), Message("assistant", "Hello!")]
    last = [Message("user", "1+1"), Message("assistant", "2", "1+1=2")]
    rendered = render(tokenizer, [*before, *said, *last], generate=False)
    trained = tokenizer.decode(
        [id for id, t in zip(rendered.ids, rendered.trained) if t], specials=True
    )
    assert trained == "Hello!<|eos|><think>1+1=2</think>2<|eos|>"


def test_the_first_exchanges_go_where_there_is_no_room(tokenizer):
    talks = take(30)
    longest = 120
    whole = [len(render(tokenizer, talk, generate=False).ids) for talk in talks]
    assert max(whole) > longest
    short = render_latest(tokenizer, talks, longest, generate=False)
    for talk, cut, n in zip(talks, short, whole):
        rests = [
            render(tokenizer, talk[2 * k :], generate=False) for k in range(len(talk) // 2)
        ]
        assert cut == next((rest for rest in rests if len(rest.ids) <= longest), rests[-1])
        assert (n <= longest) == (cut == rests[0])
    assert list(documents.spoken(LEVELS, 30, 0.5, tokenizer, 0, longest)) == short


def test_the_system_prompt_and_the_last_question_stay(tokenizer):
    talk = [
        Message("system", "Add."),
        *(Message(r, "12345") for r in ("user", "assistant") * 3),
    ]
    (alone,) = render_latest(tokenizer, [talk], 1, generate=False)
    assert alone == render(tokenizer, [talk[0], *talk[-2:]], generate=False)
    (asked,) = render_latest(tokenizer, [talk[:-1]], 1, generate=True)
    assert asked == render(tokenizer, [talk[0], talk[-2]], generate=True)


def test_a_question_that_is_a_conversation_stands_alone(monkeypatch):
    asked = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1"}]
    problem = base.Problem("1+1", "1+1", "2", {"messages": asked})
    task = base.one_level("chat", lambda rng: problem, base.check, "line")
    monkeypatch.setattr("nomoat.data.dialogue.find.find", lambda name: task)
    assert len(turns(problem.prompt, problem.facts)) == 2
    for talk in itertools.islice(dialogues({"chat": [0]}, 1.0, 0), 20):
        assert {turn.role for turn in talk} == {"user", "assistant"}
        assert not any(turn.content == "1+1" for turn in talk)
