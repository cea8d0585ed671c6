"""What is prepared in units: parts of files that depend on nothing but the files, one shard for each.

A unit is some small files, or a part of a large one that begins at a line or a group of rows; of data sets
(hub.py) it is whole files.  So the same sources give the same shards, however many workers and machines make
them.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from nomoat.config import Count, DataError, Strict, Whole, parse
from nomoat.data import hub, readers, shards, sources
from nomoat.data.readers import Span
from nomoat.files import read_json, write_whole
from nomoat.tokenizer.bpe import Tokenizer

FORMAT = 1
UNIT_BYTES = 64 * 2**20  # of files, in one unit
MOST_UNITS = 4096  # of larger sources the units are larger
AT_ONCE = 2**20  # bytes that are read of a file to see where a part may begin, or for a digest


class Choices(Strict):
    """What is taken of the sources, and how."""

    column: str | None = None
    min_chars: Whole = 0
    near_duplicates: bool = False
    decontaminate: tuple[str, ...] = ()

    @property
    def sifts(self) -> bool:
        return self.near_duplicates or bool(self.decontaminate)


class Source(Strict):
    """A file as it was when the units were cut; without a time where a commit pins it."""

    path: str
    n_bytes: Whole
    modified_ns: int = Field(ge=-(2**63), lt=2**63)


class Part(Strict):
    """A span of a unit: `source` by its number."""

    source: Whole
    start: Whole
    end: Whole


class Plan(Strict):
    """What is prepared, and in which units; the last sources are the files of the data sets, one by one."""

    format: Whole
    sources: tuple[Source, ...]
    data_sets: tuple[hub.Pinned, ...] = ()
    units: tuple[tuple[Part, ...], ...]
    choices: Choices
    tokenizer: str
    vocab_size: Count

    def spans(self, number: int) -> list[Span | hub.File]:
        return [self.span(part.source, part.start, part.end) for part in self.units[number]]

    def span(self, source: int, start: int = 0, end: int | None = None) -> Span | hub.File:
        """A part of a source, of a data set a whole file."""
        path = self.sources[source].path
        number = source - self.n_plain
        if number < 0:
            return Span(Path(path), start, end)
        for data_set in self.data_sets:
            if number < data_set.n_files:
                break
            number -= data_set.n_files
        return hub.File(data_set.exact, number, data_set.n_files, path)

    @property
    def n_plain(self) -> int:
        """Sources that are files by themselves."""
        return len(self.sources) - sum(data_set.n_files for data_set in self.data_sets)

    @property
    def n_bytes(self) -> int:
        return sum(source.n_bytes for source in self.sources)

    def unit_bytes(self, number: int) -> int:
        return sum(part.end - part.start for part in self.units[number])


def begin(
    out: Path,
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    choices: Choices,
    data_sets: Sequence[sources.DataSet] = (),
) -> Plan:
    """The plan of a directory, new or gone on with; DataError where what it was made of is another by now."""
    plan = plan_of(out) if (out / "plan.json").is_file() else None
    files = [file for path in paths for file in sources.paths(path)]
    for most, n in Counter([*files, *data_sets]).most_common(1):
        if n > 1:
            raise DataError(f"{most} is named {n} times; expected each source once: drop the others")
    if plan is not None:
        _check_asked(out, plan, data_sets, tokenizer, choices)
    found = [hub.pinned(*pair) for pair in zip(data_sets, _commits(plan, data_sets))]
    listed = [_listed(file) for file in files]
    for _, inside in found:
        listed += [_listed_of(path) for path in inside]
    if plan is not None:
        _check_same(out, plan, listed)
        return plan
    if out.exists() and any(file for file in out.iterdir() if not file.name.startswith(".")):
        raise DataError(f"{out} holds other files; expected a new directory, or one of `data prepare`")
    plan = Plan(
        format=FORMAT,
        sources=tuple(listed),
        data_sets=tuple(data_set for data_set, _ in found),
        units=tuple(_units(files, [source.n_bytes for source in listed])),
        choices=choices,
        tokenizer=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
    )
    tokenizer.save(out / "tokenizer")
    write_whole(out / "plan.json", as_json(plan.model_dump()))
    return plan


def _commits(plan: Plan | None, data_sets: Sequence[sources.DataSet]) -> list[str | None]:
    return [None] * len(data_sets) if plan is None else [pinned.commit for pinned in plan.data_sets]


def plan_of(out: Path) -> Plan:
    """The plan in a directory."""
    table = read_json(
        out / "plan.json",
        DataError,
        "a directory of `nomoat data prepare`",
        "prepare it anew in another --out",
    )
    table["sources"] = tuple(table.get("sources", ()))
    table["units"] = tuple(tuple(unit) for unit in table.get("units", ()))
    return parse(Plan, table, f"{out}/plan.json")


def _listed(file: Path) -> Source:
    stat = file.stat()
    return Source(path=str(file), n_bytes=stat.st_size, modified_ns=stat.st_mtime_ns)


def _listed_of(path: str) -> Source:
    """A file of a data set."""
    n_bytes, modified_ns = hub.size_and_time(path)
    return Source(path=path, n_bytes=n_bytes, modified_ns=modified_ns)


def _cure(out: Path) -> str:
    return f"restore it, or prepare it in another --out than {out}"


def _check_asked(
    out: Path, plan: Plan, data_sets: Sequence[sources.DataSet], tokenizer: Tokenizer, choices: Choices
) -> None:
    """DataError where another thing is asked for than in the plan."""
    cure = _cure(out)
    if plan.tokenizer != tokenizer.fingerprint:
        raise DataError(
            f"{out} was begun with another tokenizer (found {tokenizer.fingerprint[:12]}, expected "
            f"{plan.tokenizer[:12]}); {cure}"
        )
    if plan.choices != choices:
        raise DataError(f"{out} was begun with {plan.choices}, found {choices}; expected the same; {cure}")
    begun = [pinned.asked for pinned in plan.data_sets]
    if begun != list(data_sets):
        said = (", ".join(map(str, each)) or "no data set" for each in (begun, data_sets))
        raise DataError("{} was begun with {}, found {}; expected the same; {}".format(out, *said, cure))


def _check_same(out: Path, plan: Plan, listed: Sequence[Source]) -> None:
    """DataError with what is another than in the plan."""
    cure = _cure(out)
    before, now = [s.path for s in plan.sources], [s.path for s in listed]
    if before != now:
        other = sorted(set(before) ^ set(now)) or ["their order"]
        raise DataError(
            f"{out} was begun with {len(before)} files, found {len(now)} ({other[0]} differs); expected the "
            f"same; {cure}"
        )
    changed = []
    for number, (old, new) in enumerate(zip(plan.sources, listed)):
        if old.n_bytes != new.n_bytes:
            raise DataError(
                f"{new.path} has changed since {out} was begun ({new.n_bytes:,} bytes, expected "
                f"{old.n_bytes:,}); {cure}"
            )
        if old != new:
            changed.append(number)
    _check_read(out, plan, set(changed), cure)


def _check_read(out: Path, plan: Plan, changed: set[int], cure: str) -> None:
    """DataError where what was read of files with another time by now is not what is in them."""
    if not changed:
        return
    for number in finished(out, plan):
        read = shards.manifest_of(shard(out, number))["read"]
        for span, part, noted in zip(plan.spans(number), plan.units[number], read):
            if part.source in changed and digest(span) != noted["sha256"]:
                raise DataError(f"{span.path} has changed since it was read for {out}; {cure}")


def _units(files: Sequence[Path], sizes: Sequence[int]) -> Iterator[tuple[Part, ...]]:
    """Parts of files in order, about as many bytes in each unit; behind them whole files of data sets, alone
    where their size is not told.
    """
    unit_bytes = max(UNIT_BYTES, sum(sizes) // MOST_UNITS)
    unit, n_bytes = [], 0
    for source, (file, size) in enumerate(itertools.zip_longest(files, sizes)):
        edges = [0, *(_edges(file, size, unit_bytes) if file else ()), size]
        for start, end in zip(edges, edges[1:]):
            part_bytes = end - start if file or size else unit_bytes
            if unit and n_bytes + part_bytes > unit_bytes:
                yield tuple(unit)
                unit, n_bytes = [], 0
            unit.append(Part(source=source, start=start, end=end))
            n_bytes += part_bytes
    if unit:
        yield tuple(unit)


def _edges(file: Path, size: int, unit_bytes: int) -> list[int]:
    """Where parts of a large file begin but the first, about as far apart: at a line, a text, a group."""
    kind = readers.kind_of(file)
    if size <= unit_bytes * 3 // 2 or kind not in (".txt", ".jsonl", ".parquet"):
        return []
    if kind == ".parquet":
        return _group_edges(file, unit_bytes)
    edges = []
    with file.open("rb") as opened:
        for near in range(unit_bytes, size - unit_bytes // 2, unit_bytes):
            edge = _behind(opened, near, kind)
            if edge is not None and edge < size and edge > (edges or [0])[-1]:
                edges.append(edge)
    return edges


def _behind(file: Any, near: int, kind: str) -> int | None:
    """The first place from `near` on where a part of a text may begin, if there is one within a document."""
    file.seek(near)
    begin = file.read(AT_ONCE)
    for mark in (b"\f", b"\n", b" ") if kind == ".txt" else (b"\n",):
        if (place := begin.find(mark)) >= 0:
            return near + place + 1
    if kind == ".jsonl":
        return near + len(begin) + len(file.readline(readers.LONGEST_LINE_BYTES))
    return None


def _group_edges(file: Path, unit_bytes: int) -> list[int]:
    import pyarrow
    import pyarrow.parquet

    try:
        starts = readers.group_starts(pyarrow.parquet.read_metadata(file))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} is not a readable parquet file ({error}); fetch or write it again") from None
    edges = []
    for start in sorted(starts):
        if start - (edges or [0])[-1] >= unit_bytes:
            edges.append(start)
    return edges


def shard(out: Path, number: int) -> Path:
    """Where the shard of a unit is."""
    return out / "shards" / f"{number:05d}"


def finished(out: Path, plan: Plan) -> list[int]:
    """The units whose shards are there."""
    return [n for n in range(len(plan.units)) if (shard(out, n) / "shard.json").is_file()]


def missing(out: Path, plan: Plan, of: Iterable[int] | None = None) -> list[int]:
    """The units, or those `of` them, whose shards are not there."""
    there = set(finished(out, plan))
    return [n for n in (range(len(plan.units)) if of is None else of) if n not in there]


def digest(span: Span | hub.File) -> str | None:
    """The sha256 of the bytes of a span; None for what a commit in its path pins."""
    if isinstance(span, hub.File):
        return None if "://" in span.path else digest(Span(Path(span.path)))
    summed = hashlib.sha256()
    left = span.path.stat().st_size if span.end is None else span.end
    left -= span.start
    with span.path.open("rb") as file:
        file.seek(span.start)
        while left > 0 and (piece := file.read(min(AT_ONCE, left))):
            summed.update(piece)
            left -= len(piece)
    return summed.hexdigest()


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
