"""Near duplicates, and what shares words with the evaluation, left out by datatrove's own steps.

Near duplicates: MinHash over five words in a row, 14 buckets of 8 hashes, which finds most texts that are the
same in 0.8 of them and more; one of each cluster stays.  Evaluation: a text that has 13
words in a row with it is left out, whatever their case, digits, accents and punctuation.

    OUT/sift/reference/*.index.hashes   the words of the evaluation
    OUT/sift/signatures, pairs, remove  of near duplicates, from one step to the next
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.config import DataError, JsonObject
from nomoat.data import documents, prepare, sources
from nomoat.data.prepare import Tally
from nomoat.data.readers import Document
from nomoat.data.units import Plan, plan_of
from nomoat.files import visible
from nomoat.tasks import find

STDERR = 2
WORDS = 13  # in a row
HELD_OUT = "heldout"  # what ships for evaluation
PROBLEMS = 64  # that are held out, of each level of each family
SHOWN = 80  # characters of an example
EXAMPLES = 3  # of a unit, of each reason
REASONS = {"n_duplicates": "near duplicate", "n_contaminated": "evaluation"}
Say = Callable[[str], None]


def check(plan_choices: Any) -> None:
    """DataError without the engine, or for a reference that can't be read."""
    try:
        import datatrove
        import regex
    except ImportError as error:
        raise DataError(
            f"--dedup and --decontaminate need the package `{error.name}`; run `pip install nomoat[data]`"
        ) from None
    del datatrove, regex
    for name in plan_choices.decontaminate:
        if name != HELD_OUT:
            sources.paths(name)


def index(out: Path, plan: Plan, n_workers: int, share: tuple[int, int], say: Say) -> str | None:
    """What the sieves need of all units, as far as this machine can; a sentence if others have to go on."""
    if plan.choices.decontaminate:
        _write_reference(out, plan)
    if not plan.choices.near_duplicates:
        return None
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    config, n_units = MinhashConfig(hash_config=_hashing()), len(plan.units)
    at, (which, n_machines) = out / "sift", share
    first, end = (n_units * k // n_machines for k in (which, which + 1))
    say("signatures of near duplicates")
    signature = MinhashDedupSignature(str(at / "signatures"), config, _words())
    steps = [partial(read, str(out)), signature]
    signing = _executor(at / "log-signatures", steps, n_units, n_workers, first, end - first)
    _run(signing)
    if left := len(signing.get_incomplete_ranks()):
        return f"{left} of {n_units} units have no signature yet; run this again when other machines are done"
    if which == 0:
        say("pairs of near duplicates")
        buckets = MinhashDedupBuckets(str(at / "signatures"), str(at / "pairs"), config=config)
        _run(_executor(at / "log-pairs", [quiet, buckets], config.num_buckets, n_workers))
        cluster = MinhashDedupCluster(str(at / "pairs"), str(at / "remove"), config)
        _run(_executor(at / "log-remove", [quiet, cluster], 1, 1))
    elif not (at / "log-remove" / "completions" / "00000").is_file():
        return "near duplicates are found by the first machine; run this again when it is done"
    return None


def _executor(
    log: Path, steps: list[Any], tasks: int, n_workers: int, first: int = 0, n: int = -1
) -> Any:
    from datatrove.executor import LocalPipelineExecutor

    return LocalPipelineExecutor(
        steps, tasks, n_workers, str(log), local_rank_offset=first, local_tasks=n if n >= 0 else tasks
    )


def _run(executor: Any) -> None:
    """Runs it; what it and its processes say goes to a file beside its logs."""
    said = Path(executor.logging_dir.resolve_paths("said.txt"))
    said.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(STDERR)
    try:
        with said.open("ab") as file:
            os.dup2(file.fileno(), STDERR)
            executor.run()
    finally:
        os.dup2(terminal, STDERR)
        os.close(terminal)


def quiet(data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
    """A step that says nothing more to the terminal."""
    from datatrove.utils.logging import logger

    logger.remove()
    return data


def read(out: str, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
    """A step that gives the documents of unit `rank`."""
    from datatrove.data import Document as Theirs

    quiet()
    plan = plan_of(Path(out))
    for number, document in enumerate(prepare.chosen(plan, rank, prepare.notes(plan, rank))):
        yield Theirs(document.text, f"{rank}/{number}")


def _words() -> Any:
    """What splits a simplified text into words; datatrove's own need spaCy even for blanks."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    return Words()


def _hashing() -> Any:
    """How words are hashed: not by xxhash, whose newest does not take datatrove's texts."""
    from datatrove.utils.hashing import HashConfig

    return HashConfig(hash_fc="sha1")


# --- the evaluation ---


def _write_reference(out: Path, plan: Plan) -> None:
    """Hashes of all words in a row of the evaluation, as datatrove's filter reads them."""
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.text import ngrams, simplify_text

    folder = out / "sift" / "reference"
    folder.mkdir(parents=True, exist_ok=True)
    config = _hashing()
    hashed = create_hash_func(config)
    for number, name in enumerate(plan.choices.decontaminate):
        hashes = set()
        for text in evaluated(name):
            hashes.update(hashed(" ".join(words)) for words in ngrams(simplify_text(text).split(), WORDS))
        if not hashes:
            raise DataError(f"{name} has no {WORDS} words in a row; expected longer texts: leave it out")
        label = HELD_OUT if name == HELD_OUT else f"{number}-{Path(name).stem}"
        np.array(sorted(hashes), config.np_dtype).tofile(folder / f"{label}.index.hashes")


def evaluated(name: str) -> Iterator[str]:
    """The texts of an evaluation: what ships held out, with problems that are held out; or a file's."""
    if name != HELD_OUT:
        yield from (document.text for document in sources.from_path(name))
        return
    yield from (document.text for document in sources.shipped("heldout"))
    levels = {family: list(task.levels) for family, task in find.families().items()}
    n = PROBLEMS * sum(map(len, levels.values()))
    for _, _, problem in documents.problems(levels, n, 0, "eval"):
        yield problem.prompt


# --- a unit ---


class Sieve:
    """Leaves out documents of units, and notes what and why."""

    def __init__(self, out: Path, plan: Plan) -> None:
        from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
        from datatrove.pipeline.dedup import MinhashDedupFilter

        quiet()
        choices, at = plan.choices, out / "sift"
        self.duplicates = MinhashDedupFilter(str(at / "remove")) if choices.near_duplicates else None
        self.contaminated = None
        if choices.decontaminate:
            config = NGramsDecontConfig(n_grams=WORDS, hash_config=_hashing())
            self.contaminated = NGramsDecontFilter(str(at / "reference"), config, language=_words())

    def __call__(
        self, number: int, taken: Iterable[Document], tally: Tally, examples: list[JsonObject]
    ) -> Iterator[Document]:
        """Those of unit `number` that stay."""

        def left_out(document: Document, reason: str, more: str = "") -> None:
            setattr(tally, reason, getattr(tally, reason) + 1)
            if getattr(tally, reason) <= EXAMPLES:
                text = visible(more or document.text[:SHOWN]).replace("\n", " ")
                examples.append({"why": REASONS[reason], "source": document.source, "text": text})

        for document in self._distinct(number, taken, left_out):
            shared = self._shared(document)
            if shared is None:
                yield document
            else:
                left_out(document, "n_contaminated", shared)

    def _distinct(
        self, number: int, taken: Iterable[Document], left_out: Callable[..., None]
    ) -> Iterator[Document]:
        if self.duplicates is None:
            yield from taken
            return
        ahead, passed = itertools.tee(taken)
        for document in self.duplicates.run(ahead, number):
            while (other := next(passed)) is not document:
                left_out(other, "n_duplicates")
            yield document
        deque((left_out(other, "n_duplicates") for other in passed), 0)

    def _shared(self, document: Document) -> str | None:
        """Words that a document has in common with the evaluation."""
        if self.contaminated is None:
            return None
        from datatrove.data import Document as Theirs

        theirs = Theirs(document.text, "")
        if self.contaminated.filter(theirs) is True:
            return None
        return f"{theirs.metadata['contaminated_task']}: {theirs.metadata['contaminated_ngram']}"
