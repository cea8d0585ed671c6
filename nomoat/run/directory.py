"""A run directory: the resolved recipe, the event log (the only truth), the lock, what the stages left.

    RUN/recipe.json     what the run is: see run/record.py
    RUN/events.jsonl    what happened: see run/log.py
    RUN/lock            pid, host and boot id of the process that trains here
    RUN/<stage>/        what a stage leaves
"""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from nomoat.config import ConfigError, DataError, JsonObject, UserError, nearest
from nomoat.files import new_directory, write_whole, writing
from nomoat.run.left import StageWeights, TokenizerFiles
from nomoat.run.lineage import Course, another, course, is_of, sources
from nomoat.run.lock import exclusive
from nomoat.run.log import Log, is_blank
from nomoat.run.record import difference, libraries, new_record, of_recipe, plain, read_record

OURS = {"recipe.json", "events.jsonl", "lock"}
REBUILT = ("checkpoints", "data", "reference")  # what a fork of a finished stage has no use for


def is_name(name: str) -> bool:
    """Whether a stage may be called so, whose directory has its name."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", name) is not None and name not in OURS


class Run:
    """One run directory.  `create` for work (then `locked()` around it), `open` to look."""

    def __init__(self, root: Path, record: JsonObject, *, writable: bool) -> None:
        self.root = root
        self.writable = writable
        self.record = record
        self.recipe: JsonObject = record["recipe"]
        self.seed: int = self.recipe.get("seed", 0)
        self.lines = Log(root / "events.jsonl")
        self.observers = []  # each sees every event after it was logged

    # --- making and finding ---

    @classmethod
    def create(cls, root: Path, recipe: JsonObject, then: JsonObject | None = None) -> Self:
        """A new run in `root`, or the run that is already there if its recipe is the same (key order aside)
        or if nothing was done for it.

        `then` is its recipe with the defaults of today, where those are known.  Raises ConfigError with the
        difference for another recipe, DataError for a place that cannot hold a run.
        """
        file = root / "recipe.json"
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                _refuse_foreign(root)
                with exclusive(root / "lock"):
                    if not file.exists():  # nobody was quicker
                        write_whole(file, json.dumps(new_record(recipe), indent=1) + "\n")
        except OSError as error:
            raise DataError(
                f"cannot make a run in {root} ({error.strerror}); expected space and permission; "
                "use another --out"
            ) from None
        run = cls.open(root, write=True)
        changes = difference(plain(then or run.recipe), plain(recipe))
        if changes and is_blank(run.events()):
            with exclusive(root / "lock"):
                run.lines.path.unlink(missing_ok=True)
                write_whole(file, json.dumps(new_record(recipe), indent=1) + "\n")
            return cls.open(root, write=True)
        if changes:
            raise another(root, changes)
        return run

    @classmethod
    def go_on(cls, root: Path, recipe: JsonObject, then: JsonObject | None = None) -> Self:
        """The run in `root`, which goes on under another recipe from now on; see run/lineage.py.

        ConfigError for a change that what has begun can't go on with.
        """
        run = cls.open(root, write=True)
        then, now = plain(then or run.recipe), plain(recipe)
        if not difference(then, now):
            return run
        goes_on = run._course(then, now)
        with exclusive(root / "lock"):
            run.log("continue", **asdict(goes_on))
            run.lines.close()
            write_whole(root / "recipe.json", json.dumps({**run.record, **of_recipe(now)}, indent=1) + "\n")
        return cls.open(root, write=True)

    def check_goes_on(self, recipe: JsonObject, then: JsonObject, *, changed: bool = False) -> None:
        """ConfigError for a recipe that `create`, or with `changed` `go_on`, would refuse; writes nothing."""
        then, now = plain(then), plain(recipe)
        if changed:
            self._course(then, now)
        elif (changes := difference(then, now)) and not is_blank(self.events()):
            raise another(self.root, changes)

    def _course(self, then: JsonObject, now: JsonObject) -> Course:
        """How what has begun goes on under a changed recipe; ConfigError where it can't."""
        steps = {event["stage"]: 0 for event in self.events("stage_start")}
        for stage in steps:
            steps[stage] = max((event["step"] for event in self.curve(stage)), default=0)
        return course(then, now, steps)

    @classmethod
    def open(cls, root: Path, *, write: bool = False) -> Self:
        """The run in `root`, to read, or with `write` to add to; DataError if there is none."""
        return cls(root, read_record(root), writable=write)

    @classmethod
    def fork(
        cls,
        source: Self,
        root: Path,
        recipe: JsonObject,
        then: JsonObject | None = None,
        stale: Collection[str] = (),
    ) -> Self:
        """A new run in `root` under another recipe, with the finished stages of `source` that both recipes
        share.

        A stage is shared if it, what it starts from and the models are the same; its cost stays in the new
        log.  `then` is the recipe of `source` with the defaults of today, where those are known; `stale` are
        stages whose text or tasks are other ones by now.
        """
        run = cls.create(root, recipe)
        kept = source.shared(recipe, then, stale)
        if run.lines.path.exists():
            run._refuse_others(source, kept)
            return run
        for name in kept:
            with new_directory(run.root / name) as copy:
                _copy(source.root / name, copy)
        with source.lines.path.open(encoding="utf-8") as log, exclusive(run.root / "lock"):
            lines = [line for line in log if line.endswith("\n") and is_of(json.loads(line), kept)]
            write_whole(run.lines.path, "".join(lines))
        return run

    def _refuse_others(self, source: Self, kept: Collection[str]) -> None:
        """DataError if `source` has other weights by now than those that were taken over from it."""
        ours, theirs = self.all_weights(), source.all_weights()
        for name in kept:
            both = {left[name].sha256 for left in (ours, theirs) if name in left} - {None}
            if len(both) > 1:
                raise DataError(
                    f"{source.root} has another `{name}` by now than {self.root} took over from it; leave "
                    "out --from to go on with that, or begin again in another --out"
                )

    def shared(
        self, recipe: JsonObject, then: JsonObject | None = None, stale: Collection[str] = ()
    ) -> list[str]:
        """The finished stages that would come out the same under another resolved recipe."""
        then, now = plain(then or self.recipe), plain(recipe)
        if any(then.get(key) != now.get(key) for key in ("seed", "device", "threads")):
            return []
        kept = []
        for stage in now["stages"]:
            name, kind = stage["name"], stage["kind"]
            model = stage.get("model")
            if kind in ("eval", "export") or name in stale or not self.finished(name):
                continue
            if stage not in then["stages"] or not sources(stage) <= set(kept):
                continue
            if kind != "tokenizer" and not kept:  # nothing is the same under another tokenizer
                continue
            if model is None or then["models"].get(model) == now["models"].get(model):
                kept.append(name)
        return kept

    def stage_dir(self, name: str) -> Path:
        """RUN/<name>, made if this run is writable.  DataError for a name that could leave the directory."""
        if not is_name(name):
            raise DataError(f"`{name}` cannot be a stage's name; use letters, digits, '-', '_' and '.'")
        path = self.root / name
        if self.writable:
            with writing(path):
                path.mkdir(exist_ok=True)
        return path

    # --- the log ---

    def log(self, kind: str, /, **fields: Any) -> None:
        """Append one event: one write, whole or not at all.

        On a full disk the line waits in memory and goes out, in order, before the next one (see `sync`).
        NaN and infinities are written as null.  Log a step before the checkpoint that contains it is saved.
        """
        if not self.writable:
            raise DataError(f"{self.root} was opened to read; nothing is logged into it")
        event = {"kind": kind, "t": round(time.time(), 3), **plain(fields)}
        self.lines.append(event)
        self.tell(event)

    def tell(self, event: JsonObject) -> None:
        """Show something to the observers alone: what begins, which the log has no use for."""
        for observe in self.observers:
            observe(event)

    def sync(self) -> None:
        """Make the log durable, before a checkpoint is saved.  OSError (ENOSPC) while lines still wait."""
        self.lines.sync()

    def events(self, kind: str | None = None, stage: str | None = None) -> list[JsonObject]:
        """Every event in the order of the log, or those of a kind or a stage; see run/log.py for `redone`."""
        kinds = () if kind is None else (kind,)
        return [event for event in self.lines.events(*kinds) if stage in (None, event.get("stage"))]

    def curve(self, stage: str) -> list[JsonObject]:
        """The stage's "step" records as if it had never been interrupted: each step once, in order."""
        return [e for e in self.events("step", stage) if not e.get("redone")]

    # --- what the stages left ---

    def finished(self, stage: str) -> JsonObject | None:
        """The stage's "stage_end" record, unless the stage was started again after it."""
        return self._ends().get(stage)

    def begun(self, stage: str) -> JsonObject | None:
        """The stage's "stage_start" record, unless the recipe has changed under it since (`continue`)."""
        begun = None
        for event in self.lines.events("stage_start", "continue"):
            if event["kind"] == "stage_start" and event["stage"] == stage:
                begun = event
            elif event["kind"] == "continue" and stage in (*event["goes_on"], *event["again"]):
                begun = None
        return begun

    def goes_on(self, stage: str) -> bool:
        """Whether what is in the stage's directory is a part of what it does next: it has begun, and since
        then nothing said that it begins again.
        """
        has_begun = False
        for event in self.lines.events("stage_start", "continue"):
            if event["kind"] == "stage_start":
                has_begun |= event["stage"] == stage
            elif event["kind"] == "continue":
                has_begun &= stage not in event["again"]
        return has_begun

    def tokenizer(self) -> TokenizerFiles:
        """The tokenizer that this run trained; DataError while it has none."""
        left = [outputs for outputs in self._outputs().values() if "tokenizer" in outputs]
        if not left:
            raise DataError(f"{self.root} has no tokenizer yet; run its tokenizer stage first")
        return TokenizerFiles(self.root / left[-1]["tokenizer"], left[-1]["fingerprint"])

    def all_weights(self) -> dict[str, StageWeights]:
        """What each finished stage left, in the order in which they finished."""
        outputs = {name: left for name, left in self._outputs().items() if "model" in left}
        tokenizer = self.tokenizer() if outputs else None
        return {
            name: StageWeights(name, self.root / left["model"], left["spec"], tokenizer, left.get("sha256"))
            for name, left in outputs.items()
        }

    def weights(self, stage: str | None = None) -> StageWeights:
        """What `stage` left; by default the best of the run's last evaluation, or else the newest."""
        left = self.all_weights()
        if not left:
            raise DataError(
                f"{self.root}: no finished stage left a model yet; finish the run with `nomoat run`"
            )
        if stage is None:
            means = [outputs["means"] for outputs in self._outputs().values() if outputs.get("means")]
            stage = max(means[-1], key=means[-1].get) if means else list(left)[-1]
        if stage not in left:
            raise DataError(f"{self.root}: stage `{stage}` left no model; {nearest(stage, list(left))}")
        return left[stage]

    def _outputs(self) -> dict[str, JsonObject]:
        """What each finished stage says that it left, in the order in which they finished."""
        return {stage: end["outputs"] for stage, end in self._ends().items()}

    def _ends(self) -> dict[str, JsonObject]:
        """The "stage_end" record of each stage that was not started again after it, in the order of the log.
        """
        ends = {}
        for event in self.lines.events("stage_start", "stage_end", "continue"):
            if event["kind"] in ("stage_start", "stage_end"):
                ends.pop(event["stage"], None)
            for stage in (*event["goes_on"], *event["again"]) if event["kind"] == "continue" else ():
                ends.pop(stage, None)
            if event["kind"] == "stage_end":
                ends[event["stage"]] = event
        return ends

    # --- the lock ---

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """Only one process at a time trains into a directory; the kernel frees the lock of a killed one.

        Raises UserError with the pid and host of the process that holds it.  On the way out, lines that a
        full disk held back are written, or a UserError says that they are lost.
        """
        with exclusive(self.root / "lock"):
            if read_record(self.root)["recipe"] != self.recipe:
                raise ConfigError(f"the recipe in {self.root} changed just now; run the command again")
            then, now = self.record.get("libraries"), libraries()
            if then != now:
                self.log("note", stage=None, text=f"begun under {then}, goes on under {now}: bits may differ")
            try:
                yield self
                if n_lost := self.lines.flush():
                    raise UserError(
                        f"no space left in {self.root}: {n_lost} lines of its log could not be written; "
                        "free some and run the same command, it goes on from the last checkpoint"
                    )
            finally:
                self.lines.close()


def _copy(source: Path, copy: Path) -> None:
    """What a stage left, but for what is rebuilt; not `copytree`, which goes on where a disk is full."""
    for file in sorted(source.rglob("*")):
        within = file.relative_to(source)
        if file.is_file() and within.parts[0] not in REBUILT:
            (copy / within).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy / within)


def _refuse_foreign(root: Path) -> None:
    """DataError for a directory with other things in it than a run that could not be made."""
    ours = OURS - {"events.jsonl"}
    foreign = sorted(path.name for path in root.iterdir() if path.name[0] != "." and path.name not in ours)
    if foreign:
        raise DataError(
            f"{root} is not empty and has no recipe.json (found {', '.join(foreign[:5])}); "
            "expected a new, an empty or a run directory; use another --out"
        )

