"""The contract notices a task that doesn't keep it."""

import pytest

from nomoat.tasks import contract, find

TASK = """
from nomoat.tasks.base import Problem, language, others, same

levels = (1,)

def make(rng, level):
    a, b = rng.randrange(100), rng.randrange(100)
    {draw}
    prompt = dict(en="Larger of", de="Größer von").get(lang, "Max of") + f" {{a}},{{b}}?"
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
        (
            {"check": "int(answer) == max(problem.facts['a'], problem.facts['b'])"},
            "line 13: ValueError: invalid literal",
        ),
        ({"check": "same(answer, problem.witness) or None"}, "check returns None for"),
        ({"check": "'yes' if same(answer, problem.witness) else 'no'"}, "returns 'no' for the near miss"),
        ({"key": "f'{lang} {a} {b}'"}, "the key depends on the language"),
        ({"key": "'same'"}, "no problem of the"),
        ({"key": "f'{min(a, b)}'"}, "one key, two answers"),
        ({"key": "str(hash(f'{a} {b}'))"}, "another process under another hash seed"),
        ({"draw": "lang = 'en'"}, None),
        ({"draw": "lang = None"}, None),
        ({"draw": "lang = rng.choice(['en', None])"}, "isn't one of"),
        ({"draw": "lang = 'fr'"}, "isn't one of"),
    ],
)
def test_contract_notices(tmp_path, change, complaint):
    path = tmp_path / "larger.py"
    path.write_text(TASK.format(**(GOOD | change)), encoding="utf-8")
    found = contract.contract(find.load_file(path))
    assert found == [] if complaint is None else any(complaint in line for line in found), found


def test_a_check_that_is_async_is_told_and_waited_for_by_nobody(tmp_path, recwarn):
    path = tmp_path / "larger.py"
    path.write_text(TASK.format(**GOOD).replace("def check", "async def check"), encoding="utf-8")
    assert "it is async" in str(contract.refusal(find.load_file(path), 1))
    assert not recwarn.list
