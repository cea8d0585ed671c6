"""Laws of the families and the examples: the same problems for good, the same in both languages, short."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.tasks import base, contract, find

ENGLISH = ("adding", "capitals", "due", "extract", "initials")  # examples in one language
EXAMPLES = Path(__file__).parents[3] / "examples"
FAMILIES = find.families() | {path.stem: find.load_file(path) for path in sorted(EXAMPLES.glob("*.py"))}
SAMPLES = {
    name: [next(base.problems(task, level, split="train", seed=3)) for level in task.levels]
    for name, task in FAMILIES.items()
}


FINGERPRINTS = {  # the problems, chains and near misses of a family, for good
    "lamp": "687b8dc6b68aa8c4309c1605b152d1d68d49b2219ed296b8fb3ce1ec3341ee51",
    "addition": "f09b286a4da45c7648044c9c4cfc4e48e54830c1b749630bd47d31940db7ade4",
    "modchain": "c761ddd07185696561469b9386d259a242c01d873d20bb1059cd7c6fb552a1d6",
    "sorting": "c402808397224148fdabcd71d91e43b100319f415b074ae391029b9adbcfe7bd",
    "counting": "c81cd1f150b80f05ff20119ec983f511977a16f5cf3a715d3aedfc1e5c4b30a0",
    "reversing": "41f73cf50bed6c9af6e115bf21644075fb19c5ccc1e48fc223dc84c934c99459",
    "countdown": "1ee620d5420afb294baf9de1ee14d74957687a0c4c88943335f23115664e47bc",
    "weekday": "2ba78b66ed08613740f7136ac93a21c648a61bf7ae337af76c9e053ff3b03caf",
    "ordering": "a3106f13ad9a1ffdd95735cb2f1a1f1736d13fdd04c9282abb38b37018e82986",
    "boolean": "9e5fb22b55330d481e4479c6bd0715c3180e66501a9251d0e43e8ad1f06f7eaf",
    "path": "1066b45f1cdbc5046d91dfd469f6a1deb78cbde0bf28c8101adf642577559d71",
    "instruct": "76f1f5b2bcfd952e55b68ac063a6c04cef5f82d78d696dfb92771c3cbbd0ea64",
    "fields": "02e8aaf56c25dc06493cfc227030796d054a8618e63bc87bf4da854554fff7f3",
    "equation": "86c56214b4f7198a2f73af203c11d44d66edbdb5803b65fbad9436f3560b4f5f",
    "clock": "a303819c61aad3aac660ae258051710560e6e45e59136b29f76a39fd98ccb882",
    "rewriting": "df6f659eec621105ffa68833c38d843f50ac9f4a531fac44b1a9f198e95520ab",
    "sequence": "051366e852552da35aa6619e5a7615ca548951669f4587b1a54fd1a362099bf4",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_family_keeps_the_contract(name):
    count = 200 if not hasattr(FAMILIES[name], "by_tests") else 12  # answers that are run take their time
    assert contract.contract(FAMILIES[name], count) == []


@pytest.mark.parametrize("name", find.FAMILIES)
def test_a_family_asks_what_it_has_always_asked(name):
    assert contract.fingerprint(FAMILIES[name]) == FINGERPRINTS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_asks_in_its_languages(name):
    asked = {problem.facts["lang"] for level in FAMILIES[name].levels for problem in some(name, level)}
    assert asked == ({"en"} if name in ENGLISH else set(base.LANGUAGES))


def some(name: str, level: int) -> list[base.Problem]:
    return list(itertools.islice(base.problems(FAMILIES[name], level, split="train", seed=1), 20))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ENGLISH])
def test_every_language_says_the_same_with_the_same_parts(name):
    tables = list(spoken(vars(FAMILIES[name])))
    assert tables
    for table in tables:
        assert set(table) == set(base.LANGUAGES)
        assert parts(table["en"]) == parts(table["de"]), table


def spoken(said: object) -> Iterator[dict]:
    """The tables by language in a module's names, however deep."""
    for name, value in said.items():
        if isinstance(value, dict) and not str(name).startswith("__"):
            if base.LANGUAGES[0] in value:
                yield value
            else:
                yield from spoken(value)


def parts(said: object) -> object:
    """What is put into each sentence."""
    if isinstance(said, dict):
        return {key: parts(value) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return [parts(value) for value in said]
    return set(re.findall(r"\{\w*\}", said))


@given(st.text(max_size=300) | st.text("0123456789+-*() abntrue.falsch", max_size=60))
@settings(max_examples=150, deadline=None)
def test_check_is_total(text):
    for name, samples in SAMPLES.items():
        for problem in samples:
            assert isinstance(FAMILIES[name].check(problem, text), bool)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_chain_is_short(name):
    """80 tokens at most where every word of the chain is one token."""
    pieces = re.compile(r" ?[^\W\d_]+|\d| ?[^\s\w]+|\s")
    for level in FAMILIES[name].levels:
        stream = base.problems(FAMILIES[name], level, split="train", seed=1)
        longest = max(len(pieces.findall(FAMILIES[name].work(p))) for p in itertools.islice(stream, 100))
        assert longest <= (80 if name != "functions" else 120), (level, longest)


def test_countdown_accepts_every_valid_expression_and_nothing_else():
    task = FAMILIES["countdown"]
    p = base.Problem(
        "", "", "(3*5)+4", {"lang": "en", "numbers": [3, 4, 5], "target": 19, "given": [3, 4, 5]}
    )
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


def test_make_draws_only_from_its_rng():
    for name, task in FAMILIES.items():
        random.seed(1)
        before = random.getstate()
        task.make(base.Rng(name), task.levels[-1])
        assert random.getstate() == before, name
