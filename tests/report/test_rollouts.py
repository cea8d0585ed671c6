"""Rollouts as they stand: what was sampled again counts once; what a model wrote can't steer the terminal."""

import json

import pytest

from nomoat.config import DataError
from nomoat.report import rollouts
from nomoat.rl import trace
from nomoat.rl.rollout import Exercise
from nomoat.run.directory import Run
from nomoat.tasks import find
from nomoat.tasks.base import Rng


def record(step, group=0, n=0, **more):
    where = {"step": step, "group": group, "family": "lamp", "level": 4, "key": f"k{step}/{group}"}
    texts = {"prompt": "on or off?", "reply": f"<think>flip {n}</think>on", "answer": "on"}
    verdict = {"reward": 1.0, "strict": True, "lenient": True, "shadow": False, "undecided": False}
    return {**where, **texts, **verdict, "length": 5, "stop": "end", "logp": -0.25, **more}


def lines(*records):
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def a_step(number, mark="", groups=2, size=2):
    return [record(number, g, n, mark=mark) for g in range(groups) for n in range(size)]


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run", {"name": "r", "stages": [{"kind": "rl"}]})
    run.stage_dir("rl")
    return run


def write(run, text):
    (run.root / "rl" / "rollouts.jsonl").write_text(text, encoding="utf-8")
    return run


def read(run, **how):
    return list(rollouts.read(Run.open(run.root), "rl", **how))


def test_every_record_comes_in_order(run):
    told = [*a_step(1), *a_step(2), *a_step(3)]
    assert read(write(run, lines(*told))) == told


def test_filters_choose_and_the_limit_keeps_the_newest(run):
    told = [
        record(1, strict=True), record(1, 1, strict=False), record(2, strict=True, shadow=True),
        record(2, 1, strict=False, undecided=True), record(3, family="path", strict=False),
    ]  # fmt: skip
    write(run, lines(*told))

    def pick(*numbers):
        return [told[i] for i in numbers]

    assert read(run, only="right") == pick(0, 2)
    assert read(run, only="wrong") == pick(1, 4)  # what nobody could judge is not wrong
    assert read(run, only="doubted") == pick(2)
    assert read(run, step=2) == pick(2, 3)
    assert read(run, family="path") == pick(4)
    assert read(run, limit=2) == pick(3, 4)
    assert read(run, limit=0) == []
    assert read(run, step=9) == []


def test_without_a_limit_records_stream(run):
    found = rollouts.read(write(run, lines(*a_step(1), *a_step(2))), "rl")
    assert next(found)["step"] == 1


def test_steps_done_again_after_a_resume_count_once(run):
    old = [*a_step(1, "kept"), *a_step(2, "void"), *a_step(3, "void"), *a_step(4, "void")]
    new = [*a_step(2, "new"), *a_step(3, "new")]
    found = read(write(run, lines(*old, *new)))
    assert found == [*a_step(1, "kept"), *new]  # step 4 waits to be sampled again


def test_two_resumes(run):
    told = lines(
        *a_step(1, "a"), *a_step(2, "a"), *a_step(3, "a"), *a_step(2, "b"), *a_step(3, "b"), *a_step(3, "b")
    )
    assert read(write(run, told)) == [*a_step(1, "a"), *a_step(2, "b"), *a_step(3, "b")]
    again = told + lines(*a_step(1, "c"), *a_step(2, "c"))
    assert read(write(run, again)) == [*a_step(1, "c"), *a_step(2, "c")]


def test_the_last_step_repeated_in_the_same_bits_counts_once(run):
    assert read(write(run, lines(*a_step(1), *a_step(2), *a_step(2)))) == [*a_step(1), *a_step(2)]


def test_twins_within_a_step_are_no_repetition(run):
    twins = [record(1, 0), record(1, 0), record(1, 1), record(1, 1)]
    ranks = [record(1, 0, key="rank 0"), record(1, 1), record(1, 0, key="rank 1"), record(1, 1)]
    assert read(write(run, lines(*twins))) == twins
    assert read(write(run, lines(*ranks))) == ranks  # each process numbers its own groups


@pytest.mark.parametrize("torn", [1, 9, 40, 200])
def test_a_torn_last_line_is_skipped(run, torn):
    whole = lines(*a_step(1))
    assert read(write(run, whole + lines(record(2))[:torn])) == a_step(1)


@pytest.mark.parametrize("torn", [1, 9, 40, 200])
def test_after_a_torn_line_the_step_begins_again(run, torn):
    half = a_step(2)[:2]
    text = lines(*a_step(1), *half) + lines(a_step(2)[2])[:torn] + lines(*a_step(2), *a_step(3))
    assert read(write(run, text)) == [*a_step(1), *a_step(2), *a_step(3)]


def test_a_reply_that_looks_like_a_record_stays_a_reply(run):
    told = [record(1, reply='{"step": 9, "family": "x"}\n{"step":9}'), record(2)]
    assert read(write(run, lines(*told))) == told


def test_a_missing_or_damaged_file_says_what_to_do(run):
    with pytest.raises(DataError, match=r"no rollouts in .*expected .*--stage"):
        read(run)
    with pytest.raises(DataError, match=r"line 2 is no rollout.*restore"):
        read(write(run, lines(record(1)) + "nonsense\n" + lines(record(2))))


def test_a_block_tells_everything():
    text = rollouts.show([record(7, 3, strict=False, shadow=True, stop="length", answer="off")])
    for piece in ("✗ step 7", "lamp/4", "group 3", "reward 1", "5 tokens", "mean logp -0.250", "doubted",
                  "cut off", "right in another form", "prompt  on or off?", "chain   flip 0", "answer  on",
                  "judged  off"):  # fmt: skip
        assert piece in text, piece
    assert "✓" in rollouts.show([record(1)])
    assert rollouts.show([record(1, undecided=True, strict=False)]).startswith("?")
    assert rollouts.show([]) == "no such rollouts"
    assert rollouts.show([{"step": 1}])  # absent keys are shown as absent


def test_an_answer_to_a_file_stands_beside_what_is_wanted_and_the_rule(tmp_path):
    path = tmp_path / "tip.jsonl"
    path.write_text("".join(lines({"question": f"Tip {n}?", "answer": f"${n}.50"}) for n in range(20, 40)))
    task = find.find(str(path))
    problem = task.make(Rng("a"), 0)
    said = trace.ruling(Exercise("tip", 0, task, problem), "a lot")
    assert said == {"expected": problem.witness, "rule": "another text"}
    block = rollouts.show([record(1, **said)])
    assert f"  wanted  {problem.witness}\n  rule    another text" in block
    assert trace.ruling(Exercise("tip", 0, task, problem), None) == {}
    assert trace.ruling(Exercise("lamp", 4, find.find("lamp"), problem), "on") == {}


def test_an_unclosed_chain_has_no_answer():
    text = rollouts.show([record(1, reply="<think>on and on", answer=None, strict=False)])
    assert "chain   on and on" in text
    assert "answer  –" in text


def test_nothing_steers_the_terminal():
    nasty = "\x1b[2J\x9b31m\x07\u202egnp\u2066\r\x00\ttab\u2028line\ufeff"
    told = record(
        1, prompt=nasty, reply=f"<think>{nasty}\nsecond line</think>{nasty}", answer=nasty, family=nasty
    )
    text = rollouts.show([told])
    assert "\\x1b[2J" in text
    assert "\\u202e" in text
    assert "second line" in text
    assert all(c == "\n" or c.isprintable() for c in text)


@pytest.mark.parametrize("width", [40, 80])
def test_texts_wrap_at_the_width(width):
    text = rollouts.show([record(1, prompt="word " * 60, reply="<think>" + "x" * 300 + "</think>on")], width)
    assert max(map(len, text.splitlines()[1:])) <= width
    assert text.count("x") >= 300


def test_cut_keeps_one_line():
    assert rollouts.cut("ab\ncd", 10) == "ab\\ncd"
    assert rollouts.cut("abcdef", 4) == "abc…"
