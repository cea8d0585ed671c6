"""What stages read, by content: its digests stand in the log, and say later what is another thing by now.

A "read" event: `what` ("text", "task", "tokenizer", "weights", "samples", or "model" of one that is given),
its `source` and `sha256`; of text also how much of each language was read, and of text and given models the
`stamp` of their files, which spares reading them again.
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import model_validator

from nomoat.config import Count, DataError, JsonObject, Word
from nomoat.data import documents, prepared
from nomoat.data.shards import Shard
from nomoat.data.sources import DataSet, Document
from nomoat.files import sha256
from nomoat.run.directory import Run
from nomoat.stages.recipe import Recipe, StageConfig
from nomoat.tasks import find
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.session import Session


class ReadsText(StageConfig):
    """`text` is a path or, as `hub`, a data set, of which `text_bytes` of each language are read; absent,
    what ships.  Of a `text` that `nomoat data prepare` made, about as much is read in all."""

    text: Word | None = None
    text_bytes: Count | None = None
    hub: DataSet | None = None

    @model_validator(mode="after")
    def _one_of_both(self):
        if self.text is not None and self.hub is not None:
            raise ValueError(f"text = {self.text!r} beside hub = {str(self.hub)!r}; expected one of them")
        return self

    @property
    def is_prepared(self) -> bool:
        return prepared.holds(self.text)

    def documents(self) -> Iterator[Document]:
        """The documents; of what is prepared only the first, spelled again."""
        if self.is_prepared:
            return prepared.texts(self.text)
        return documents.text(self.text, self.text_bytes, self.hub)


@dataclass(frozen=True, slots=True)
class Change:
    """What a stage read that is another thing by now."""

    stage: str
    read: JsonObject  # the event
    sha256: str  # now

    def __str__(self) -> str:
        read = self.read
        return (
            f"{self.stage}: {read['what']} {read['source']} (sha256 {read['sha256'][:12]} when it was read, "
            f"{self.sha256[:12]} now)"
        )


# --- reading ---


def text(session: Session, config: ReadsText) -> Iterable[Document]:
    """The documents of a stage; once all are read, the log says which they were.

    Interrupted between two of them, where a signal asks to stop and nobody else waits for them.
    """
    stamp = _stamp(config)
    if config.is_prepared and config.kind == "tokenizer":
        raise DataError(
            f"{config.text} is tokens already; expected text to make a tokenizer from: name its sources"
        )

    def between() -> None:
        if session.mesh.world == 1:
            session.check_stop()

    def done() -> None:
        sha256 = prepared.sha256(config.text) if config.is_prepared else read.sha256
        log(session, "text", _source(config), sha256, stamp=stamp, n_bytes=dict(read.n_bytes))

    read = documents.Reading(config.documents(), between, done)
    return read


def tokens(session: Session, config: ReadsText, tokenizer: Tokenizer) -> Shard:
    """The tokens of a prepared text; the log says which they are."""
    opened = prepared.opened(config.text, tokenizer, config.text_bytes)
    if session.leads:
        digest = prepared.sha256(config.text)
        n_tokens = int(opened.offsets[-1])
        log(session, "text", config.text, digest, stamp=_stamp(config), n_tokens=n_tokens)
    return opened


def no_reply(place: str, n_documents: int, context: int) -> DataError:
    """What is wrong with conversations that are cut off before their first reply."""
    return DataError(
        f"{place}: in none of {n_documents:,} documents a reply begins within rows of {context:,} tokens; "
        "expected a question and its reply in one; shorten the questions, or raise the context"
    )


def log(session: Session, what: str, source: str, sha256: str, **fields: Any) -> None:
    """A "read" event, unless the last of its kind says the same."""
    last = reads(session.run, session.stage).get((what, source))
    if last is None or last["sha256"] != sha256:
        session.log("read", what=what, source=source, sha256=sha256, **fields)


def samples(session: Session, stage: str) -> Path:
    """The answers that a stage of rejection sampling kept; DataError for a file that has changed since."""
    end = session.run.finished(stage)
    if end is None:
        raise DataError(f"stage {session.stage} reads what {stage} keeps; run {stage} first")
    path = session.run.root / end["outputs"]["samples"]
    found, left = sha256(path), end["outputs"].get("sha256")
    if left not in (None, found):
        raise DataError(f"{path} is not what stage {stage} left; restore it, or run again in another --out")
    log(session, "samples", stage, found)
    return path


def log_setting(session: Session, config: StageConfig) -> None:
    """The files of a stage's tasks, and the tokenizer with which it reads."""
    for path in task_files(config):
        log(session, "task", str(path), sha256(path))
    if config.kind not in ("tokenizer", "import"):
        files = session.run.tokenizer()
        log(session, "tokenizer", files.path.name, files.fingerprint)


def task_files(config: StageConfig) -> list[Path]:
    """The files of a stage's tasks, and modules beside them that they import."""
    names = {**getattr(config, "tasks", {}), **getattr(config, "policy_tasks", {})}
    files: list[Path] = []
    waiting = [path for name in names for path in find.files(name)]
    while waiting:
        path = waiting.pop(0)
        if path not in files:
            files.append(path)
            waiting += imported_beside(path) if path.suffix == ".py" else []
    return files


def imported_beside(path: Path) -> list[Path]:
    """The modules and packages in its folder that a Python file names in an import, whoever runs it."""
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [alias.name for alias in node.names]
    found: list[Path] = []
    for name in dict.fromkeys(name.partition(".")[0] for name in names):
        module, package = path.parent / f"{name}.py", path.parent / name
        found += [module] if module.is_file() else sorted(package.rglob("*.py"))
    return found


# --- comparing ---


def reads(run: Run, stage: str) -> dict[tuple[str, str], JsonObject]:
    """The last "read" event of each thing that a stage read, since it last began from nothing."""
    last = {}
    for event in run.events():
        if event["kind"] == "read" and event["stage"] == stage:
            last[event["what"], event["source"]] = event
        elif event["kind"] == "continue" and stage in event["again"]:
            last.clear()
    return last


def changes(run: Run, recipe: Recipe) -> list[Change]:
    """What stages read that is another thing by now; what is gone, or on a hub, is taken to be the same."""
    found, digests = [], {}
    for config in recipe.stages:
        for read in reads(run, config.name).values():
            now = _now(run, recipe, config, read, digests)
            if now is not None and now != read["sha256"]:
                found.append(Change(config.name, read, now))
    return found


def check(run: Run, recipe: Recipe, *, accept: bool = False) -> None:
    """DataError for what has changed since it was read; with `accept` the log says it, and the run goes on.
    """
    changed = changes(run, recipe)
    if changed and not accept:
        raise DataError(
            "\n  ".join([f"{run.root}: changed since it was read:", *map(str, changed)])
            + "\nrestore it; or do again what read it, in a new run that takes over the rest: --out OTHER "
            f"--from {run.root}; or keep what is done and go on with what is there now: --continue"
        )
    if changed:
        run.log("continue", changes=[str(change) for change in changed], goes_on=[], again=[])
    for change in changed:
        run.log("note", stage=None, text=f"goes on with what is there now, {change}")
        same = {key: change.read[key] for key in ("stage", "what", "source")}
        run.log("read", **same, sha256=change.sha256, accepted=True)


def _now(
    run: Run, recipe: Recipe, config: StageConfig, read: JsonObject, digests: dict[str, str | None]
) -> str | None:
    """The sha256 of what is there now, None where that can't be told; `digests` of text are computed once."""
    what, source = read["what"], read["source"]
    if what == "task":
        return sha256(Path(source)) if Path(source).is_file() else None
    if what == "tokenizer":
        return read["sha256"] if not run.finished(source) else run.tokenizer().fingerprint
    if what == "model":
        place = Path(source)
        same = read.get("stamp") is not None and stamp_of(place) == read["stamp"]
        return read["sha256"] if same or not place.exists() else sha256(place)
    if what in ("weights", "samples"):
        end = None if config.kind == "eval" else run.finished(source)  # what is measured is measured again
        return end and end["outputs"].get("sha256")
    reader = text_of(recipe, config)
    if _source(reader) != source or _is_remote(reader):
        return None
    if read.get("stamp") is not None and _stamp(reader) == read["stamp"]:
        return read["sha256"]
    key = reader.model_dump_json(include={"text", "text_bytes", "hub"})
    if key not in digests:
        digests[key] = _digest(reader)
    return digests[key]


def text_of(recipe: Recipe, config: StageConfig) -> ReadsText:
    """What a stage reads text by: its own configuration, or that of the recipe's pretraining."""
    readers = [s for s in (config, *recipe.stages) if isinstance(s, ReadsText) and s.kind != "tokenizer"]
    if isinstance(config, ReadsText):
        return config
    return readers[0] if readers else ReadsText(kind="pretrain")


def _digest(reader: ReadsText) -> str | None:
    if not _place(reader).exists():
        return None
    try:
        if reader.is_prepared:
            return prepared.sha256(reader.text)
        return documents.sha256(reader.documents())
    except DataError as error:  # that is no longer a text is another one, too
        return hashlib.sha256(str(error).encode()).hexdigest()


def _source(reader: ReadsText) -> str:
    return str(reader.hub or reader.text or "what ships")


def _place(reader: ReadsText) -> Path:
    """Where its files are, if they are anywhere here."""
    ships = str(resources.files("nomoat.data") / "corpus")
    return Path(reader.hub.name if reader.hub else reader.text or ships)


def _is_remote(reader: ReadsText) -> bool:
    return reader.hub is not None and not _place(reader).exists()


def _stamp(reader: ReadsText) -> str | None:
    return stamp_of(_place(reader))


def stamp_of(place: Path) -> str | None:
    """Of names, sizes and times of all files: where it is the same, so is what is in them."""
    if not place.exists():
        return None
    found = place.rglob("*") if place.is_dir() else [place]
    stamp = hashlib.sha256()
    for file in sorted(file for file in found if file.is_file()):
        stat = file.stat()
        times = stat.st_mtime_ns, stat.st_ctime_ns
        stamp.update(os.fsencode(file) + f" {stat.st_size} {times}\n".encode())
    return stamp.hexdigest()
