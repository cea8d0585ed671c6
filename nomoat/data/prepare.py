"""Text to token shards on every core: the same bytes however many workers, machines and kills.

The sources are parted into units (units.py).  A unit becomes one shard (shards.py), written whole or not at
all, by whoever takes it; what is there is not made again.

    OUT/plan.json        sources with sizes and times, units, choices, the tokenizer's fingerprint
    OUT/tokenizer/       the tokenizer
    OUT/shards/00000/    the shard of unit 0; its shard.json also says what was read, and what was left out
    OUT/manifest.json    the sums, and the sha256 of every shard: there once all are
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nomoat.config import DataError, JsonObject
from nomoat.data import documents, hub, readers, shards
from nomoat.data.readers import Document, Span
from nomoat.data.units import FORMAT, Plan, as_json, digest, shard
from nomoat.files import write_whole
from nomoat.tokenizer.bpe import Tokenizer

SAID = 20  # bad rows, and examples of what was left out, that a manifest keeps
TRIED_ROWS = 100  # of which, at the begin of a unit, not more than half may be bad


@dataclass
class Tally:
    """What became of a unit's rows; `examples` are of near duplicates and of what meets the evaluation."""

    n_characters: int = 0
    n_bytes: int = 0
    n_short: int = 0
    n_duplicates: int = 0
    n_contaminated: int = 0


class _Noted(readers.Rows):
    """Bad rows are counted, and the first of them kept: its number in the span, and what is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bad = 0
        self.first: list[JsonObject] = []

    def bad(self, place: str, error: DataError) -> None:
        self.n_bad += 1
        if self.n_bad > TRIED_ROWS / 2 and self.n <= TRIED_ROWS:
            raise DataError(f"{self.n_bad} of {self.n} rows are bad; the last: {error}")
        if len(self.first) < SAID:
            self.first.append({"row": self.n, "found": str(error).removeprefix(place).lstrip(", ")})


# --- making ---


Sift = Callable[[int, Iterator[Document], Tally, list[JsonObject]], Iterator[Document]]


def make(out: Path, plan: Plan, number: int, tokenizer: Tokenizer, sift: Sift | None = None) -> None:
    """The shard of a unit, of its documents those that `sift` lets through."""
    tally = Tally()
    about: JsonObject = {}

    def kept() -> Iterator[Document]:
        noted = notes(plan, number)
        taken = chosen(plan, number, noted, tally)
        if sift is not None:
            about["examples"] = examples = []
            taken = sift(number, taken, tally, examples)
        for document in taken:
            tally.n_characters += len(document.text)
            tally.n_bytes += len(document.text.encode())
            yield document
        about["read"] = [_read(span, note) for span, note in zip(plan.spans(number), noted)]
        about.update(asdict(tally))

    shards.write(shard(out, number), documents.prose(kept(), tokenizer), plan.vocab_size, about)


def notes(plan: Plan, number: int) -> list[_Noted]:
    """One for each span of a unit."""
    return [_Noted() for _ in plan.units[number]]


def chosen(
    plan: Plan, number: int, noted: Sequence[readers.Rows], tally: Tally | None = None
) -> Iterator[Document]:
    """The documents of a unit that are long enough, of which later steps may leave some out."""
    for span, note in zip(plan.spans(number), noted):
        for document in read(span, plan.choices.column, note):
            if len(document.text) >= plan.choices.min_chars:
                yield document
            elif tally:
                tally.n_short += 1


def read(span: Span | hub.File, column: str | None, rows: readers.Rows) -> Iterator[Document]:
    """The documents of a part of a source that say something."""
    return span.read(column, rows) if isinstance(span, hub.File) else readers.read(span, column, rows)


def _read(span: Span | hub.File, note: _Noted) -> JsonObject:
    """What was read of a span, for its shard.json."""
    return {"sha256": digest(span), "n_rows": note.n, "n_bad": note.n_bad, "bad": note.first}


# --- finishing ---

SUMS = ("n_documents", "n_tokens", "n_characters", "n_bytes", "n_short", "n_duplicates", "n_contaminated")


def finish(out: Path, plan: Plan) -> JsonObject:
    """The manifest, written once all shards are there."""
    made = [shards.manifest_of(shard(out, number)) for number in range(len(plan.units))]
    manifest = {
        "format": FORMAT,
        "tokenizer": plan.tokenizer,
        "vocab_size": plan.vocab_size,
        "choices": plan.choices.model_dump(mode="json"),
        **{name: sum(manifest[name] for manifest in made) for name in SUMS},
        **_rows(plan, made),
        "examples": [e for manifest in made for e in manifest.get("examples", ())][:SAID],
        "shards": [{"n_tokens": m["n_tokens"], "sha256": m["sha256"]} for m in made],
    }
    if not manifest["n_documents"]:
        raise DataError(
            f"no documents are left for {out} ({manifest['n_bad']:,} bad rows, {manifest['n_short']:,} too "
            f"short); expected at least one: check the sources and choices; {'; '.join(manifest['bad'][:3])}"
        )
    write_whole(out / "manifest.json", as_json(manifest))
    return manifest


def _rows(plan: Plan, made: Sequence[JsonObject]) -> JsonObject:
    """Rows and digests of each source, how many rows are bad, and the first of those with file and row."""
    n_rows = [0] * len(plan.sources)
    digests: list[list[str | None]] = [[] for _ in plan.sources]
    bad = []
    n_bad = 0
    for unit, manifest in zip(plan.units, made):
        for part, read in zip(unit, manifest["read"]):
            span = plan.span(part.source)
            before = n_rows[part.source]
            for noted in read["bad"][: SAID - len(bad)]:
                place = span.place(before + noted["row"])
                bad.append(f"{place} {noted['found']}")
            n_bad += read["n_bad"]
            n_rows[part.source] += read["n_rows"]
            digests[part.source].append(read["sha256"])
    files = []
    for source, n, each in zip(plan.sources, n_rows, digests):
        file = {"path": source.path, "n_bytes": source.n_bytes}
        file["n_rows"] = n
        file["sha256"] = each
        files.append(file)
    return {"n_bad": n_bad, "bad": bad, "sources": files}
