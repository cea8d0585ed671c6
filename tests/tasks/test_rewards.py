"""Reward functions as TRL calls them: every name, every form of what they give, nothing accepted unseen."""

import json
import os
import signal
import sys

import pytest

from nomoat.config import TaskError
from nomoat.run.stop import Ended, end
from nomoat.tasks import base, find, guest, verdicts, worker

HEAD = """
import math
import re
def equal(completions, answer):
    return [1.0 if c == a else 0.0 for c, a in zip(completions, answer)]
"""
RIGHT = {
    "all names": """
def f(prompts, completions, completion_ids, trainer_state, log_extra, log_metric, answer, **kwargs):
    log_extra("n", [1] * len(completions))
    log_metric("right", 0.5)
    assert len(prompts) == len(completion_ids) == len(completions) and not trainer_state
    return equal(completions, answer)
""",
    "no more than it takes": "def f(completions, answer, prompts):\n    return equal(completions, answer)\n",
    "async": """
import asyncio
async def f(completions, answer, **kwargs):
    await asyncio.sleep(0)
    return equal(completions, answer)
""",
    "an object": """
class F:
    def __call__(self, completions, answer, **kwargs):
        return tuple(equal(completions, answer))
f = F()
""",
    "numpy": """
import numpy
def f(completions, answer, **kwargs):
    return numpy.array(equal(completions, answer))
""",
    "truth": "def f(completions, answer, **k):\n    return [c == a for c, a in zip(completions, answer)]\n",
    "a column of one row": "def f(completions, answer, hint, **k):\n    return equal(completions, answer)\n",
    "a neighbour": """
from beside_rewards import ONE
def f(completions, answer, **kwargs):
    return [ONE * reward for reward in equal(completions, answer)]
""",
}  # fmt: skip
WRONG = {
    "the end": ("__import__('os')._exit(0)", r"it ends its process \(exit code 0\)"),
    "inf": ("return [math.inf for c in completions]", "it gives inf; expected a number with an end"),
    "too few": ("return equal(completions, answer)[:-1]", "it gives 0 rewards for 1 completions; expected"),
    "too many": ("return [*equal(completions, answer), 1.0]", "it gives 2 rewards for 1 completions"),
    "one": ("return 1.0", "gives a float; expected a list with a reward a completion"),
    "nothing": ("return None", "gives a NoneType; expected a list"),
    "no end": ("import itertools; return itertools.repeat(1.0)", "it gives 2 rewards for 1 completions"),
    "a set": ("return set(equal(completions, answer))", "gives a set; expected a list"),
    "a table": ("return {'f': 1.0}", "gives a dict"),
    "words": ("return ['1.0' for c in completions]", "it gives '1.0'; expected a number"),
    "nan": ("return [math.nan for c in completions]", "decides nothing about"),
    "less": ("return [0.5 * r for r in equal(completions, answer)]", "line 1: rewards_of rejects '1' for"),
    "ids": ("return [len(ids) for ids in kwargs['completion_ids']]", "completion_ids is not known where"),
    "an id": ("return [float(i == [7]) for i in kwargs['completion_ids']]", "completion_ids is not known"),
    "the step": ("kwargs['trainer_state'].global_step", "trainer_state is not known where a text is judged"),
    "asserts": ("assert completions == 7", "line 7: AssertionError"),
    "re": ("re.compile('(')", "rewards.py, line 7: error: missing"),
    "a file": ("open('/nowhere/at/all')", "line 7: FileNotFoundError"),
    "leaves": ("raise SystemExit(0)", "line 7: SystemExit: 0"),
    "the first alone": ("return [1.0 if completions[0] == a else 0.0 for a in answer]", "together otherwise"),
}  # fmt: skip


@pytest.fixture
def task_of(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(1, 40)]
    rows[20]["hint"] = "so"
    (tmp_path / "beside_rewards.py").write_text("ONE = 1.0\n")

    def made(source, *options, rows=rows):
        (tmp_path / "rewards_of.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (tmp_path / "rewards.py").write_text(HEAD + source)
        find.find.cache_clear()
        return find.find(":".join([f"{tmp_path}/rewards_of.jsonl", f"{tmp_path}/rewards.py", "f", *options]))

    yield made
    for name in ("rewards", "beside_rewards"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("kind", RIGHT)
def test_what_trl_calls_is_called_alike(task_of, kind):
    task = task_of(RIGHT[kind])
    p = task.listed["train"][0]
    assert task.check(p, p.witness) is True
    assert task.check(p, "0") is False


@pytest.mark.parametrize("kind", WRONG)
def test_what_gives_no_verdicts_is_refused_at_the_door(task_of, kind):
    body, complaint = WRONG[kind]
    with pytest.raises(TaskError, match=complaint):
        task_of(f"def f(completions, answer, **kwargs):\n    {body}\n")


def test_no_reward_leaves_the_completion_out(task_of):
    task = task_of(
        "def f(completions, answer, **kwargs):\n"
        "    return [None if c == 'skip' else math.nan if c == 'nan' else float(c == a)"
        " for c, a in zip(completions, answer)]\n"
    )
    p = task.listed["train"][0]
    for text in ("skip", "nan"):
        with pytest.raises(base.Undecided):
            task.check(p, text)
    with verdicts.Verdicts() as judge:
        assert judge.verdict(task, p, "<think>1</think>skip", True).undecided
        assert judge.verdict(task, p, f"<think>1</think>{p.witness}", True).strict


FORM = """
def f(completions, **kwargs):
    return [float(bool(re.fullmatch("<think>.+</think>[0-9]+", c))) for c in completions]
"""


def test_a_function_may_judge_the_form_of_the_whole_reply(task_of):
    with pytest.raises(TaskError, match="rewards_of rejects '1' for"):
        task_of(FORM)
    task = task_of(FORM, "reply")
    p = task.listed["train"][0]
    with verdicts.Verdicts() as judge:
        replies = ("<think>a</think>7", "7", "<think>7")
        strict = {text: judge.verdict(task, p, text, True).strict for text in replies}
    assert strict == {"<think>a</think>7": True, "7": False, "<think>7": False}
    with pytest.raises(TaskError, match="names f:answer; expected .*rewards.py:FUNCTION:reply"):
        task_of(FORM, "answer")


def test_what_a_function_writes_into_what_it_is_given_is_not_kept(task_of):
    rows = [{"prompt": [{"role": "user", "content": f"{n}?"}], "answer": str(n)} for n in range(1, 40)]
    source = """
def f(prompts, completions, answer, **kwargs):
    for p, c in zip(prompts, completions):
        p.extend(c)
    return [float(len(p) == 2 and p[1]["content"] == a) for p, a in zip(prompts, answer)]
"""
    task = task_of(source, rows=rows)
    p = task.listed["train"][0]
    assert [task.check(p, text) for text in (p.witness, "0", p.witness)] == [True, False, True]


def test_what_a_function_prints_is_no_result(task_of, capsys):
    task = task_of(
        "def f(completions, answer, **k):\n    print('so')\n    return equal(completions, answer)\n"
    )
    assert task.check(task.listed["train"][0], "0") is False
    assert capsys.readouterr().out == ""


def test_conversations_are_judged_as_conversations(task_of):
    asked = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "?"}]
    rows = []
    for n in range(1, 40):
        rows.append({"prompt": [*asked, {"role": "user", "content": f"{n}?"}], "answer": str(n)})
    source = """
def f(prompts, completions, answer, **kwargs):
    assert all(p[0]["role"] == "system" and p[-1]["content"] == a + "?" for p, a in zip(prompts, answer))
    return [float(c[0] == {"role": "assistant", "content": a}) for c, a in zip(completions, answer)]
"""
    task = task_of(source, rows=rows)
    p = task.listed["train"][0]
    assert task.check(p, p.witness)
    assert not task.check(p, "0")


def test_a_missing_file_function_or_module_is_told(task_of, tmp_path):
    complaints = {
        "import nowhere_at_all": "line 6: ModuleNotFoundError: No module named 'nowhere_at_all'",
        "f = 7": "no function 'f' in .*expected TRL's signature",
        "def f(:": "SyntaxError",
    }
    for source, complaint in complaints.items():
        with pytest.raises(TaskError, match=complaint):
            task_of(source)
    with pytest.raises(TaskError, match="nothing at .*none.py"):
        find.find(f"{tmp_path}/rewards_of.jsonl:{tmp_path}/none.py:f")
    with pytest.raises(TaskError, match="names no function"):
        find.find(f"{tmp_path}/rewards_of.jsonl:{tmp_path}/rewards.py")


def test_a_question_that_stands_twice_with_other_columns_is_told(task_of):
    rows = [{"question": "1?", "answer": "1", "hint": hint} for hint in ("a", "b")]
    with pytest.raises(TaskError, match="line 2: the question stands above with other columns"):
        task_of(RIGHT["an object"], rows=rows)


def test_a_signal_ends_a_call_and_its_process(task_of):
    """What asks the command to end is no verdict, and nothing is left behind."""
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ended):
            task_of(
                "import os, signal, threading\ndef f(completions, answer, **kwargs):\n"
                "    os.kill(os.getppid(), signal.SIGTERM)\n    threading.Event().wait(60)\n"
            )
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_function_that_does_not_come_back_is_told(task_of, monkeypatch):
    monkeypatch.setattr(worker, "LONGEST_SECONDS", 0.05)
    for head in ("def f", "async def f"):
        wait = "await asyncio.sleep(9)" if "async" in head else "threading.Event().wait(9)"
        with pytest.raises(TaskError, match="f has not come back; expected it within 0.05 seconds a call"):
            task_of(f"import asyncio, threading\n{head}(completions, **_):\n    {wait}")


def test_an_interrupt_that_a_function_raises_is_its_own_and_a_signal_is_not():
    def raises():
        raise KeyboardInterrupt

    fault = guest.attempt(raises)
    assert fault.kind == "KeyboardInterrupt"
    assert "test_rewards.py, line" in fault.words
    with pytest.raises(KeyboardInterrupt):
        guest.attempt(signal.raise_signal, signal.SIGINT)


FREE = """
import os, random, signal
random.seed(0)
def f(completions, answer, **kwargs):
    os.chdir("/")
    os.environ["CUDA_VISIBLE_DEVICES"] = "7"
    os.write(1, b"so")
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(9)
    return equal(completions, answer)
"""


def test_what_a_function_does_to_its_process_is_its_own(task_of, capfd):
    before = os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGALRM), sys.stdout
    task = task_of(FREE)
    p = task.listed["train"][0]
    assert [task.check(p, text) for text in (p.witness, "0")] == [True, False]
    assert (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGALRM), sys.stdout) == before
    assert capfd.readouterr().out == ""


def test_a_process_that_ends_is_begun_again(task_of):
    task = task_of(
        "import os\ndef f(completions, answer, **kwargs):\n    if completions == ['end']: os._exit(0)\n"
        "    return equal(completions, answer)\n"
    )
    p = task.listed["train"][0]
    with pytest.warns(UserWarning, match=r"ends its process \(exit code 0\)\); the answer counts as wrong"):
        assert [task.check(p, text) for text in ("end", p.witness)] == [False, True]
