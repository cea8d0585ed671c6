"""Every command in README.md and docs/ is read out of them: each is parsed, and run as it stands."""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nomoat.cli import main, ranks
from nomoat.config import read_recipe
from nomoat.plan.budget import resolve

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACES = {
    "RECIPE": "recipes/cpu.toml",
    "RUN": "runs/cpu",
    "DIR": "runs/dir",
    "NAME": "addition",
    "FILE": "texts/a.txt",
}
SMALLER = {  # what a recipe is cut to, so that its commands can be run
    "steps": 2, "policy_steps": 1, "ramp_steps": 0, "rows": 2, "prompts": 2, "group": 2, "samples": 1,
    "problems": 1, "task_documents": 200, "talk_documents": 50, "vocab_size": 420, "text_bytes": 20000,
    "max_new_tokens": 8,
}  # fmt: skip
QUICK = ("receipt", "rollouts", "plan")  # run with every change
NOT_RUN = {  # parsed alone
    "compare": "takes an hour; tests/lab",
    "truth": "takes an hour; tests/lab",
    "scaling": "takes minutes; tests/lab",
    "bench": "takes minutes; tests/lab",
    "chaos": "takes minutes; tests/lab",
    "transfer": "tests/story/test_whole_chain.py, with --quick",
    "cpu": "ten minutes; the same recipe is run as a file",
    "recipes/r1.toml": "keeps right answers, and a model of two steps has none",
    "rg:": "reasoning-gym may be absent; tests/tasks/test_gym.py",
    "serve": "answers until it is ended; tests/serve/test_server.py",
    "runs/taught": "what `nomoat teach smollm2` leaves; tests/cli/test_teach.py, with a toy",
    "smollm2": "135 M parameters take minutes; tests/weights/gguf/test_load_smollm2.py",
}


def commands(page: Path) -> list[list[str]]:
    """The words of each command of a page, in order: of indented lines, and between backticks."""
    text = page.read_text()
    indented = [line.partition("  #")[0] for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]
    quoted = [" ".join(words.split()) for words in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", text)]
    lines = [part.strip() for line in (*indented, *quoted) for part in line.split("&&")]
    found = [line for line in lines if re.match(r"(nomoat|torchrun) [a-z-]", line) and "…" not in line]
    return [[PLACES.get(word, word) for word in shlex.split(line)] for line in dict.fromkeys(found)]


def argv(words: list[str]) -> list[str]:
    """What nomoat is given, on each rank."""
    given = words[words.index("nomoat") + 1 :]
    return ranks.asked(given[1:])[1] if given[:1] == ["ranks"] else given


def why_not(words: list[str]) -> str | None:
    """The reason for which a command is parsed alone; None for one that is run."""
    starts = [word.partition(":") for word in words[1:4]]
    return next((NOT_RUN[start + colon] for start, colon, _ in starts if start + colon in NOT_RUN), None)


EVERY = [pytest.param(page, words, id=shlex.join(words)) for page in PAGES for words in commands(page)]
SETS = sorted(
    {
        match[1].replace("\n", " ")
        for page in PAGES
        for match in re.finditer(r"`--set\s+([^`]+)`", page.read_text())
    }
)


def test_there_are_commands():
    verbs = {argv(words)[0] for page in PAGES for words in commands(page)}
    assert len(EVERY) > 40
    assert {"run", "chat", "eval", "export", "runs", "plan", "tokenizer", "pretrain", "task"} <= verbs


@pytest.mark.parametrize(("page", "words"), EVERY)
def test_every_command_is_understood(page, words, monkeypatch):
    given = []

    def stub(verb):
        return functools.wraps(verb)(lambda *args, **kwargs: given.append(verb) or 0)

    verbs = {name: stub(verb) for name, verb in main.verbs().items()}
    monkeypatch.setattr(main, "verbs", lambda: verbs)
    assert main.main(argv(words)) == 0
    assert len(given) == (argv(words) != ["--version"])


@pytest.mark.parametrize("text", SETS)
def test_every_setting_is_one_of_the_recipe(text):
    asked = shlex.split(text)
    recipe = "teach" if any(key.startswith("cold.") for key in asked) else "cpu"
    assert resolve(read_recipe(recipe, asked))


@pytest.fixture(scope="module")
def place(smoke, tmp_path_factory):
    """A folder as a reader has it: recipes, but small ones, a finished run, texts, problems."""
    root = tmp_path_factory.mktemp("reader")
    (root / "recipes").mkdir()
    for file in (ROOT / "recipes").glob("*.toml"):
        text = file.read_text()
        for key, value in SMALLER.items():
            text = re.sub(rf"\b{key} = [0-9_]+", f"{key} = {value}", text)
        (root / "recipes" / file.name).write_text(text)
    for name in ("cpu", "r1"):
        shutil.copytree(smoke.root, root / "runs" / name)
    (root / "texts").mkdir()
    (root / "texts" / "a.txt").write_text("The house stands in a garden, and the garden by a lake.\n" * 400)
    rows = [{"question": f"What is {n}/4 of 10?", "answer": f"{2.5 * n:g}"} for n in range(100)]
    (root / "problems.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def ordered(page: Path) -> list[list[str]]:
    """A task file comes first: others name it."""
    return sorted(commands(page), key=lambda words: words[1:3] != ["task", "new"])


def run(forge, place, words) -> tuple[int, str]:
    """How a command ended, and what it said on stderr."""
    if words[0] == "nomoat":
        done = forge(*argv(words), cwd=place, stdin="How much is 4+8?")  # what a chat is asked
        return done.code, done.err
    command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_quick_commands_run(forge, place):
    for page in PAGES:
        for words in ordered(page):
            if words[1] in QUICK and not why_not(words) and "runs/mine" not in words:
                code, err = run(forge, place, words)
                assert code == 0, (words, err)
        (place / "mine.py").unlink(missing_ok=True)


@pytest.mark.check
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs(forge, place, page):
    (place / "mine.py").unlink(missing_ok=True)
    shutil.rmtree(place / "runs" / "mine", ignore_errors=True)
    for words in ordered(page):
        if why_not(words):
            continue
        code, err = run(forge, place, words)
        assert code == 0, (words, err)
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if "base_url" in code:  # which asks a server
            continue
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=place, env=env, check=True)
