"""A preparation as a person asks for it: planned, gone on with, timed, said."""

import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import ConfigError, JsonObject
from nomoat.data import documents, hub, prepare, readers, sift, sources, units, workers
from nomoat.data.units import Choices
from nomoat.run import lock
from nomoat.tokenizer.bpe import Tokenizer

SAY_SECONDS = 5.0
SAMPLE_BYTES = 2**22  # of text that is timed
TERABYTE = 10**12
CORES = (16, 64, 256)  # for which a terabyte is told
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What a person asks for; `machine` is "I/N", the I-th of N that share the directory, from 1."""

    files: Sequence[Path]
    tokenizer: Tokenizer
    out: Path
    choices: Choices
    n_workers: int
    machine: str | None = None
    data_sets: Sequence[sources.DataSet] = ()

    @property
    def share(self) -> tuple[int, int]:
        """(which, of how many) machines, from 0."""
        first, _, n = (self.machine or "1/1").partition("/")
        if not (first.isdecimal() and n.isdecimal() and 1 <= int(first) <= int(n)):
            raise ConfigError(f"--machine {self.machine}; expected I/N, such as 1/4: the first of four")
        return int(first) - 1, int(n)


def prepared(asked: Asked, say: Say) -> str:
    """Prepares, or goes on; a sentence about what is there."""
    which, n_machines = asked.share
    out = asked.out
    if asked.choices.sifts:
        sift.check(asked.choices)
    out.mkdir(parents=True, exist_ok=True)
    with lock.exclusive(out / f".lock-{which}"):
        plan = units.begin(out, asked.files, asked.tokenizer, asked.choices, asked.data_sets)
        if not (out / "manifest.json").is_file():
            if plan.choices.sifts and units.missing(out, plan):
                others = sift.index(out, plan, asked.n_workers, asked.share, say)
                if others:
                    return others
            own = range(which, len(plan.units), n_machines)
            workers.run(out, plan, units.missing(out, plan, own), asked.n_workers, _Line(say))
        if left := units.missing(out, plan):
            return f"{len(left)} of {len(plan.units)} units are left to other machines; run this behind them"
        manifest = prepare.finish(out, plan)
        shutil.rmtree(out / "sift", ignore_errors=True)
        return sentence(out, manifest)


def sentence(out: Path, manifest: JsonObject) -> str:
    """What a manifest says, for a person."""
    head = (
        f"{out}: {manifest['n_documents']:,} documents, {manifest['n_tokens']:,} tokens of "
        f"{manifest['n_bytes'] / 1e6:,.1f} MB in {len(manifest['shards'])} shards"
    )
    lines = [head]
    said = {
        "n_bad": "bad rows are left out",
        "n_short": "are too short",
        "n_duplicates": "are near duplicates",
        "n_contaminated": "share words with the evaluation",
    }
    for name, what in said.items():
        if manifest[name]:
            lines.append(f"  {manifest[name]:,} {what}")
    lines += [f"  bad: {line}" for line in manifest["bad"]]
    lines += [f"  {e['why']}: {e['source']}: {e['text']}" for e in manifest["examples"]]
    return "\n".join([*lines, f'to train on it: text = "{out}"'])


class _Line:
    """Says progress, not too often."""

    def __init__(self, say: Say) -> None:
        self.say, self.last = say, 0.0

    def __call__(self, progress: workers.Progress) -> None:
        if progress.n_done == progress.n_units or progress.seconds - self.last > SAY_SECONDS:
            self.last = progress.seconds
            self.say(str(progress))


@dataclass(frozen=True, slots=True)
class Rate:
    """What was measured of a sample on one core; bytes are of text."""

    n_bytes: int
    n_documents: int
    n_tokens: int
    seconds: float
    item_bytes: int

    def hours(self, n_bytes: float, n_cores: int) -> float:
        return n_bytes * self.seconds / self.n_bytes / n_cores / 3600

    def out_bytes(self, n_bytes: float) -> float:
        """Of tokens and of where documents begin."""
        return n_bytes * (self.n_tokens * self.item_bytes + 8 * self.n_documents) / self.n_bytes


def measured(asked: Asked) -> Rate:
    """The rate of reading and encoding the first texts, in this process."""
    column = asked.choices.column
    rows = [readers.read(readers.Span(file), column) for file in _files(asked)]
    for data_set in asked.data_sets:
        rows.append(sources.from_hub(hub.by_default(data_set, column)))
    n_bytes = 0

    def sample():
        nonlocal n_bytes
        for document in itertools.chain.from_iterable(rows):
            n_bytes += len(document.text.encode())
            yield document
            if n_bytes >= SAMPLE_BYTES:
                return

    start = time.process_time()
    lengths = [len(document.ids) for document in documents.prose(sample(), asked.tokenizer)]
    seconds = time.process_time() - start
    if not lengths:
        raise ConfigError("no text to time; expected at least one document: check the sources")
    item_bytes = 2 if asked.tokenizer.vocab_size <= 2**16 else 4
    return Rate(n_bytes, len(lengths), sum(lengths), seconds, item_bytes)


def _files(asked: Asked) -> list[Path]:
    return [file for path in asked.files for file in sources.paths(path)]


def estimated(asked: Asked) -> str:
    """What all of it would take, and a terabyte, from a sample."""
    rate = measured(asked)
    n_bytes = sum(file.stat().st_size for file in _files(asked))
    for data_set in asked.data_sets:
        _, inside = hub.pinned(data_set)
        n_bytes += sum(hub.size_and_time(path)[0] for path in inside)
    mega = rate.n_bytes / 1e6
    timed = (
        f"timed: {mega:,.1f} MB of text, {mega / rate.seconds:.2f} MB/s a core, "
        f"{rate.n_bytes / rate.n_tokens:.2f} bytes a token"
    )
    lines = [timed, _line(f"{n_bytes / 1e6:,.1f} MB of files, taken as text", rate, n_bytes, asked.n_workers)]
    lines += [_line("1 TB of text", rate, TERABYTE, n) for n in CORES]
    return "\n".join(lines)


def _line(what: str, rate: Rate, n_bytes: float, n_cores: int) -> str:
    giga = rate.out_bytes(n_bytes) / 1e9
    return f"{what}: {rate.hours(n_bytes, n_cores):,.2f} h on {n_cores} cores, {giga:,.3f} GB out"
