"""Every family keeps the contract; the contract notices a task that doesn't; answers are read strictly or leniently."""

import itertools
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.config import TaskError
from nomoat.files import shipped
from nomoat.tasks import answers, base, contract, find

EXAMPLES = Path(__file__).parents[2] / "examples"
FAMILIES = find.families() | {path.stem: find.load_file(path) for path in sorted(EXAMPLES.glob("*.py"))}
SAMPLES = {
    name: [next(base.problems(task, level, split="train", seed=3)) for level in task.levels]
    for name, task in FAMILIES.items()
}


@pytest.mark.parametrize("name", FAMILIES)
def test_family_keeps_the_contract(name):
    count = 200 if not hasattr(FAMILIES[name], "by_tests") else 12  # answers that are run take their time
    assert contract.contract(FAMILIES[name], count) == []


def test_every_language_says_the_same_with_the_same_parts():
    table = shipped(base.__file__, "words.toml")
    assert set(table) == set(find.FAMILIES)
    parts = lambda said: (
        {key: parts(value) for key, value in said.items()} if isinstance(said, dict)
        else [parts(value) for value in said] if isinstance(said, list)
        else set(re.findall(r"\{\w*\}", said))
    )  # fmt: skip
    for family, said in table.items():
        assert set(said) == set(base.LANGUAGES), family
        assert parts(said["en"]) == parts(said["de"]), family


@given(st.text(max_size=300) | st.text("0123456789+-*() abntrue.falsch", max_size=60))
@settings(max_examples=150, deadline=None)
def test_check_is_total(text):
    for name, samples in SAMPLES.items():
        for problem in samples:
            assert isinstance(FAMILIES[name].check(problem, text), bool)


PARTS = ("<think>", "</think>", "a", "=", ":", "\n", " ", "<|eos|>", "Answer")


@given(st.text(max_size=300) | st.lists(st.sampled_from(PARTS)).map("".join))
@settings(max_examples=300, deadline=None)
def test_answers_are_total_and_strict_is_clean(reply):
    assert isinstance(answers.lenient_answer(reply), str)
    strict = answers.strict_answer(reply)
    if strict is not None:
        assert strict == strict.strip() != ""
        assert len(strict) <= 200
        assert len(strict.splitlines()) == 1
        assert not answers.SPECIAL.search(strict)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_chain_is_short(name):
    """80 tokens at most where every word of the chain is one token."""
    pieces = re.compile(r" ?[^\W\d_]+|\d| ?[^\s\w]+|\s")
    for level in FAMILIES[name].levels:
        stream = base.problems(FAMILIES[name], level, split="train", seed=1)
        longest = max(len(pieces.findall(FAMILIES[name].work(p))) for p in itertools.islice(stream, 100))
        assert longest <= (80 if name != "functions" else 120), (level, longest)


def test_streams_are_keyed_by_index_and_seed():
    task = FAMILIES["sorting"]
    first = list(itertools.islice(base.problems(task, 5, split="train", seed=0), 50))
    assert first == list(itertools.islice(base.problems(task, 5, split="train", seed=0), 50))
    later = {p.key for p in itertools.islice(base.problems(task, 5, split="train", seed=1), 50)}
    assert len({p.key for p in first} & later) < 5


def test_a_stream_keeps_to_one_language_and_the_same_problems():
    task = FAMILIES["weekday"]
    streams = (base.problems(task, 3, split="eval", seed=0, lang=lang) for lang in ("en", "de"))
    english, german = (list(itertools.islice(stream, 20)) for stream in streams)
    assert {p.facts["lang"] for p in english} == {"en"}
    assert {p.facts["lang"] for p in german} == {"de"}
    assert [p.key for p in english] == [p.key for p in german]


def test_unknown_level_split_and_task_say_what_is_known():
    task = FAMILIES["lamp"]
    with pytest.raises(TaskError, match="no level 99.*expected one of"):
        next(base.problems(task, 99, split="train", seed=0))
    with pytest.raises(TaskError, match="no split 'test'.*'train' or 'eval'"):
        next(base.problems(task, 4, split="test", seed=0))
    with pytest.raises(TaskError, match="no task 'lamb'.*lamp"):
        find.find("lamb")


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ("<think>7+8+0=15:15</think>15", "15", "15"),
        ("7+8+0=15:15</think> 15 <|eos|>", "15", "15"),
        ("15", "15", "15"),
        ("<think></think>15<|eos|>", "15", "15"),
        ("<think>7+8", None, "7+8"),
        ("<think>a</think><think>b</think>15", None, "15"),
        ("x<think>a</think>15", None, "15"),
        ("<think>a</think>15</think>16", None, "16"),
        ("<think>a</think>7+8=15", "7+8=15", "15"),
        ("<think>a</think>The answer is: 15", "The answer is: 15", "15"),
        ("<think>a</think>Die Antwort ist 15", "Die Antwort ist 15", "15"),
        ("<think>a</think>well\n\n15\n", None, "15"),
        ("<think>a</think>15<|user|>", None, "15"),
        ("<think>a</think>" + "9" * 201, None, "9" * 201),
        ("<think>a</think>", None, "a"),
        ("", None, ""),
        ("=:\n", "=:", ""),
    ],
)
def test_strict_and_lenient(reply, strict, lenient):
    assert answers.strict_answer(reply) == strict
    assert answers.lenient_answer(reply) == lenient


def test_only_what_the_prompt_allows_is_normalised():
    p = base.Problem("", "", " Anna")
    assert all(base.same(text, p.witness) for text in ("Anna", " Anna.", "anna\n", "ANNA"))
    assert not any(base.same(text, p.witness) for text in ("Anna..", "An na", "Anna!", "Αnna", "Anna Ben", ""))
    assert not base.same("\u212a", "k")  # the kelvin sign


def test_countdown_accepts_every_valid_expression_and_nothing_else():
    task = FAMILIES["countdown"]
    p = base.Problem("", "", "(3*5)+4", {"lang": "en", "numbers": [3, 4, 5], "target": 19, "given": [3, 4, 5]})
    for text in ("4+3*5", "((3*5))+4", " 5 * 3 + 4 ", "4+(5*3)."):
        assert task.check(p, text)
    wrong = "19|3*5+4+0|3*5+04|3*5*4/4+4|+3*5+4|15+4|3*5+4=19|3(5)+4|(3,5,4)|3**1|3*5\n+4|3*5+４|((3*5)+4"
    for text in wrong.split("|"):
        assert not task.check(p, text)


def test_addition_chains_hold_true_equations():
    for p in itertools.islice(base.problems(FAMILIES["addition"], 5, split="train", seed=0), 100):
        steps, _, answer = FAMILIES["addition"].work(p).rpartition(":")
        for step in steps.split(","):
            left, right = step.split("=")
            assert sum_of(left) == sum_of(right)
        assert int(answer) == sum_of(f"{p.facts['a']}{p.facts['op']}{p.facts['b']}")


def sum_of(text: str) -> int:
    return sum(int(part) for part in text.replace("-", "+-").split("+"))


TASK = """
from nomoat.tasks.base import Problem, language, others, same

levels = (1,)

def make(rng, level):
    a, b = rng.randrange(100), rng.randrange(100)
    {draw}
    prompt = dict(en="Larger of", de="Größer von")[lang] + f" {{a}},{{b}}?"
    return Problem(prompt, {key}, str(max(a, b)), dict(lang=lang, a=a, b=b))

def check(problem, answer):
    return {check}

def near_misses(problem):
    return others(problem, problem.facts["a"], problem.facts["b"], "both", "", 100, "larger")

def work(problem):
    return f"{{problem.facts['a']}}:{{problem.witness}}"
"""
GOOD = {"draw": "lang = language(rng)", "key": "f'{a} {b}'", "check": "same(answer, problem.witness)"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"check": "answer in problem.witness"}, "check accepts"),
        ({"check": "problem.witness in answer"}, "check accepts"),
        ({"check": "answer == problem.witness + '!'"}, "check rejects the witness"),
        ({"check": "int(answer) == max(problem.facts['a'], problem.facts['b'])"}, "check raises ValueError over"),
        ({"check": "same(answer, problem.witness) or None"}, "check returns None for"),
        ({"key": "f'{lang} {a} {b}'"}, "the key depends on the language"),
        ({"key": "'same'"}, "no problem of the"),
        ({"key": "f'{min(a, b)}'"}, "one key, two answers"),
        ({"key": "str(hash(f'{a} {b}'))"}, "another process under another hash seed"),
        ({"draw": "lang = 'en'"}, "isn't both of"),
    ],
)
def test_contract_notices(tmp_path, change, complaint):
    path = tmp_path / "larger.py"
    path.write_text(TASK.format(**(GOOD | change)), encoding="utf-8")
    found = contract.contract(find.load_file(path))
    assert found == [] if complaint is None else any(complaint in line for line in found), found


def test_a_file_that_is_no_task_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(TaskError, match="no task file at"):
        find.load_file(path)
    path.write_text("levels = (1,)\n")
    with pytest.raises(TaskError, match="lacks make, check, near_misses, work"):
        find.load_file(path)
    path.write_text("def make(:\n")
    with pytest.raises(TaskError, match="is not Python"):
        find.load_file(path)


def test_make_draws_only_from_its_rng():
    for name, task in FAMILIES.items():
        random.seed(1)
        before = random.getstate()
        task.make(base.Rng(name), task.levels[-1])
        assert random.getstate() == before, name
