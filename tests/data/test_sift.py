"""What is left out: near duplicates but one, what has words in a row with the evaluation; nothing else."""

import json
import random

import pytest

from nomoat.config import DataError
from nomoat.data import preparing, sift, sources, units, workers
from nomoat.data.units import Choices
from nomoat.tasks import find
from nomoat.tokenizer import bpe

WORDS = [f"{a}{b}{c}" for a in "bdgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(["so on"], bpe.SMALLEST_VOCAB)


def words(n, seed):
    return random.Random(f"sift/{seed}").choices(WORDS, k=n)


def write(path, texts):
    path.write_text("".join(json.dumps({"text": " ".join(text)}) + "\n" for text in texts))
    return path


def prepared(tokenizer, out, source, n=2, machine=None, **choices):
    said = preparing.prepared(
        preparing.Asked([source], tokenizer, out, Choices(**choices), n, machine), lambda _: None
    )
    file = out / "manifest.json"
    return said, json.loads(file.read_text()) if file.is_file() else None


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Sixty texts, and ten of them once more with a word changed, and one of those a third time."""
    monkeypatch.setattr(units, "UNIT_BYTES", 10_000)
    texts = [words(120, seed) for seed in range(60)]
    again = [["changed" if n == 7 else word for n, word in enumerate(text)] for text in texts[:10]]
    return write(tmp_path / "texts.jsonl", [*texts, *again, again[3]])


@pytest.mark.check
def test_of_near_duplicates_one_stays_also_across_units_and_machines(tmp_path, tokenizer, copies):
    pytest.importorskip("datatrove")
    said, manifest = prepared(tokenizer, tmp_path / "one", copies, near_duplicates=True)
    assert (manifest["n_duplicates"], manifest["n_documents"]) == (11, 60)
    assert "11 are near duplicates" in said
    assert {e["why"] for e in manifest["examples"]} == {"near duplicate"}
    assert not (tmp_path / "one" / "sift").exists()
    two = tmp_path / "two"
    order = ("1/2", "2/2", "1/2", "2/2", "1/2")
    said = [prepared(tokenizer, two, copies, 1, machine, near_duplicates=True)[0] for machine in order]
    assert "have no signature yet" in said[0]
    assert "found by the first machine" in said[1]
    assert said[2].endswith("run this behind them")
    assert said[-1].splitlines()[1:] == said[-2].splitlines()[1:]
    assert (two / "manifest.json").read_bytes() == (tmp_path / "one" / "manifest.json").read_bytes()


@pytest.mark.check
def test_datatroves_executor_makes_the_same_units(tmp_path, tokenizer, copies):
    executor = pytest.importorskip("datatrove.executor")
    from functools import partial

    from nomoat.data import prepare

    whole, theirs = tmp_path / "whole", tmp_path / "theirs"
    for out in (whole, theirs):
        plan = units.begin(out, [copies], tokenizer, Choices())
    workers.step(str(whole))
    step, n = partial(workers.step, str(theirs)), len(plan.units)
    executor.LocalPipelineExecutor([step], tasks=n, workers=2, logging_dir=str(tmp_path / "log")).run()
    assert prepare.finish(whole, plan) == prepare.finish(theirs, plan)


@pytest.mark.check
def test_what_meets_the_evaluation_is_left_out(tmp_path, tokenizer):
    pytest.importorskip("datatrove")
    held = words(60, "held")
    near = [*words(50, "a"), *(word.upper() + "," for word in held[20:33]), *words(50, "b")]
    far = [*words(50, "c"), *held[20:32], *words(50, "d")]  # a word less
    reference = write(tmp_path / "held.jsonl", [held])
    source = write(tmp_path / "texts.jsonl", [words(99, "e"), near, far])
    said, manifest = prepared(tokenizer, tmp_path / "out", source, decontaminate=(str(reference),))
    assert (manifest["n_contaminated"], manifest["n_documents"]) == (1, 2)
    assert manifest["examples"][0]["text"] == f"0-held: {' '.join(held[20:33])}"
    assert "1 share words with the evaluation" in said


def test_the_evaluation_that_ships_has_text_and_problems(monkeypatch):
    monkeypatch.setattr(sift, "PROBLEMS", 1)
    held = {document.text for document in sources.shipped("heldout")}
    texts = set(sift.evaluated(sift.HELD_OUT))
    assert held < texts
    assert len(texts - held) >= len(find.families())


def test_a_reference_that_is_nowhere_is_said_before_anything(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datatrove", None)
    (tmp_path / "a.txt").write_text("so on")
    with pytest.raises(DataError, match=r"need the package `datatrove`; run `pip install nomoat\[data\]`"):
        prepared(tokenizer, tmp_path / "out", tmp_path / "a.txt", near_duplicates=True)
    assert not (tmp_path / "out").exists()
