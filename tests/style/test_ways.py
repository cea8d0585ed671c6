"""The way of one datum is short: how often it changes the room, counted while the program runs.

What is counted.  A profile hook of the interpreter sees every function of the package that is called, resumed
or left. A function counts if the datum is there: in one of its arguments, or in what it returns or yields.
"There" means the datum itself as text, as ids (a list, an array or an integer tensor that has them in this
order) or as floats, or a record that contains it: a dataclass, tuple, list, dict or, for weights, a model.
An object that could fetch it (a generator, a `Packed`, a run) does not contain it.  The rooms of the
functions that count, in the order of time and without repetitions, are its way, and the changes between them
its length; a room is the first folder under nomoat/. Where a datum becomes another one (a prompt is
answered), the new one is followed from the moment it exists.

What is not counted: comprehensions, which are a part of their function; the inside of a model's forward pass,
which takes ids of many data and gives none back; the loss, where a token's way ends, is.  Threads that judge
ahead are not followed.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import nomoat
from nomoat.config import read_recipe
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.generate import stream
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.plan.budget import resolve
from nomoat.rl import trace
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.stop import Stop
from nomoat.serve import fields, openai
from nomoat.serve.asked import Choice, Usage
from nomoat.serve.bot import Bot
from nomoat.serve.reply import Reply
from nomoat.serve.shelf import Served
from nomoat.stages import fit, models
from nomoat.stages.pipeline import run_stages
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import Message
from nomoat.tokenizer.pieces import Piece
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.session import Session

ROOT = Path(nomoat.__file__).parent
SMOKE = ROOT.parent / "recipes" / "smoke.toml"
DEEPEST = 5  # records within records that are opened
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # parts of their function
MARKED = "quetzals and quokkas jump over the zygomatic arch of a jinx"
FILLER = [
    f"The lamp number {n} is on, and the lamp beside it is off; nobody knows why that is so."
    for n in range(40)
]


# --- the datum ---


@dataclasses.dataclass
class Datum:
    """What a datum looks like: a text, ids, floats, or anything of a class."""

    text: str | None = None
    ids: list[int] | None = None
    floats: torch.Tensor | None = None
    kind: type | None = None

    def is_in(self, value: object, depth: int = DEEPEST) -> bool:
        if isinstance(value, str):
            return self.text is not None and self.text in value
        if self.kind is not None and isinstance(value, self.kind):
            return True
        if isinstance(value, torch.Tensor | np.ndarray):
            return self._is_in_array(value)
        if isinstance(value, list | tuple) and value and all(isinstance(x, int) for x in value):
            return self.ids is not None and spelled(self.ids) in spelled(value)
        return depth > 0 and any(self.is_in(part, depth - 1) for part in parts_of(value))

    def _is_in_array(self, array: torch.Tensor | np.ndarray) -> bool:
        if self.floats is not None and isinstance(array, torch.Tensor):
            is_alike = array.shape == self.floats.shape and not array.is_meta
            return is_alike and bool((array == self.floats).all())
        is_ids = "int" in str(array.dtype)
        return self.ids is not None and is_ids and spelled(self.ids) in spelled(array.flatten().tolist())


def spelled(ids) -> str:
    """One character an id, so that a run of ids is a part of a text."""
    return "".join(chr(id % 0xD800) for id in ids)


def parts_of(value: object) -> list:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, Transformer):
        return [value.norm.weight.data]
    return list(value) if isinstance(value, list | tuple) else []


# --- the way ---


class Way:
    """`with Way(datum, …) as way:` follows the datum, and each further one from the moment it is there.

    The way begins and ends at a function, as ("room/file.py", "name"): where it first returns, and where it
    is called.
    """

    def __init__(
        self, *data: Datum, start: tuple[str, str] | None = None, end: tuple[str, str] | None = None
    ):
        self.data, self.start, self.end = list(data), start, end
        self.begun, self.ended = start is None, False
        self.stops: list[tuple[str, str]] = []  # (room, the first function there)

    def __enter__(self) -> "Way":
        sys.setprofile(self._hook)
        return self

    def __exit__(self, *_) -> None:
        sys.setprofile(None)

    @property
    def rooms(self) -> list[str]:
        return [room for room, _ in self.stops]

    @property
    def changes(self) -> int:
        return len(self.stops) - 1

    def _hook(self, frame, event: str, result: object) -> None:
        code = frame.f_code
        if self.ended or event not in ("call", "return") or not code.co_filename.startswith(f"{ROOT}/"):
            return
        if code.co_name in COMPREHENSIONS:
            return
        file = code.co_filename.removeprefix(f"{ROOT}/")
        if file.startswith("model/") and file != "model/loss.py":
            return
        n_arguments = (
            code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        )
        names = code.co_varnames[:n_arguments]
        values = [frame.f_locals.get(name) for name in names] if event == "call" else [result]
        if not any(self._is_there(value) for value in values):
            return
        place = file, code.co_name
        self.begun = self.begun or (place == self.start and event == "return")
        room = file.partition("/")[0].removesuffix(".py")
        if self.begun and room != (self.stops[-1][0] if self.stops else None):
            self.stops.append((room, code.co_qualname))
        self.ended = self.begun and place == self.end and event == "call"

    def _is_there(self, value: object) -> bool:
        if len(self.data) > 1 and self.data[1].is_in(value):
            self.data.pop(0)
        return self.data[0].is_in(value)


# --- runs of the smoke recipe's sizes ---


def recipe_of(text: Path, *stages: dict):
    """The smoke recipe's models and stages, cut to a few steps."""
    table = read_recipe(SMOKE)
    smoke = {stage["kind"]: stage for stage in table["stages"]}
    tokenizer = {"kind": "tokenizer", "vocab_size": 384, "text": str(text)}
    pretrain = {**smoke["pretrain"], "text": str(text), "shares": {"prose": 1.0}, "steps": 2, "ramp_steps": 0}
    chosen = [{**smoke.get(stage["kind"], {}), **stage} for stage in stages]
    return resolve({**table, "stages": [tokenizer, pretrain, *chosen]})


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.jsonl"
    lines = [*FILLER[:20], f"{FILLER[0]} {MARKED}.", *FILLER[20:]]
    path.write_text("".join(f'{{"text": "{line}"}}\n' for line in lines))
    return path


def run(root: Path, recipe, only: list[str]) -> Run:
    with Run.create(root, recipe.table).locked() as opened:
        run_stages(opened, recipe, Stop(), only=only)
    return Run.open(root)


def way_of_a_token(tmp_path, text) -> Way:
    recipe = recipe_of(text)
    prepared = run(tmp_path / "run", recipe, ["tokenizer"])
    ids = models.load_tokenizer(prepared).encode(f" {MARKED}")
    way = Way(Datum(text=MARKED, ids=ids[3:11]), end=("model/loss.py", "cross_entropy"))
    with way:
        run(tmp_path / "run", recipe, ["pretrain"])
    assert way.ended
    return way


def test_a_token_goes_from_its_source_to_the_loss_in_four_changes(tmp_path, text):
    way = way_of_a_token(tmp_path, text)
    assert way.rooms == ["data", "tokenizer", "data", "train", "model"], way.stops
    assert way.changes <= 4


def test_a_detour_is_counted_and_a_call_without_the_datum_is_not(tmp_path, text, monkeypatch):
    through, by = detour("plan"), detour("lab")
    accumulate = fit.accumulate

    def detoured(model, batches, *rest):
        return by(accumulate(model, [through(batch) for batch in batches], *rest))

    monkeypatch.setattr(fit, "accumulate", detoured)
    way = way_of_a_token(tmp_path, text)
    assert way.rooms == ["data", "tokenizer", "data", "train", "plan", "train", "model"]


def detour(room: str) -> Callable:
    """A function of that room that gives back what it gets."""
    names: dict = {}
    exec(compile("def through(thing):\n    return thing\n", f"{ROOT}/{room}/detour.py", "exec"), names)
    return names["through"]


def test_a_rollout_goes_from_the_curriculum_to_the_gradient_in_six_changes(tmp_path, text, monkeypatch):
    rewards = {"accuracy": 1.0, "random": 1.0}  # the coin: something to learn from a model that knows nothing
    recipe = recipe_of(text, {"kind": "rl", "steps": 1, "rewards": rewards})
    written = []
    monkeypatch.setattr(trace, "write", lambda session, step, groups: written.append(groups))
    for root in (tmp_path / "first", tmp_path / "again"):
        run(root, recipe, ["tokenizer", "pretrain"])
    run(tmp_path / "first", recipe, ["rl"])
    prompt, reply = followed(written[0])
    tokenizer = models.load_tokenizer(Run.open(tmp_path / "first"))
    data = (
        Datum(text=prompt, ids=tokenizer.encode(prompt)),
        Datum(text=reply.text, ids=reply.ids_T[:-1].tolist()),
    )
    with Way(*data, start=("rl/curriculum.py", "draw"), end=("rl/grpo.py", "gradient")) as way:
        run(tmp_path / "again", recipe, ["rl"])
    assert way.ended
    assert way.rooms == ["rl", "tokenizer", "engine", "tokenizer", "rl", "tasks", "rl"], way.stops
    assert way.changes <= 6


def prompt_of(group):
    return group[0].rollout.exercise.problem.prompt


def followed(groups):
    """(prompt, rollout) of one that teaches something, is like no other, and whose problem is not the
    canary's."""
    flat = [judged for group in groups for judged in group]
    prompts = [prompt_of(group) for group in groups]
    for group in groups[1:4]:
        teaches = len({judged.reward for judged in group}) > 1
        for judged in group if teaches and prompts.count(prompt_of(group)) == 1 else ():
            text = judged.rollout.text
            if judged.rollout.length > 6 and sum(text in other.rollout.text for other in flat) == 1:
                return prompt_of(group), judged.rollout
    raise AssertionError("no rollout to follow; expected one whose group has news")


@pytest.fixture
def model(tokenizer):
    spec = resolve(read_recipe(SMOKE)).models["main"]
    return Transformer(spec.model_copy(update={"vocab_size": tokenizer.vocab_size})).initialise(0)


@pytest.fixture
def tokenizer():
    return bpe.train([*FILLER, MARKED], 384)


def test_a_message_goes_from_the_bot_to_its_pieces_in_four_changes(model, tokenizer):
    bot = Bot(model.eval(), tokenizer, max_new_tokens=4)
    data = Datum(text=MARKED, ids=tokenizer.encode(MARKED)), Datum(kind=Piece)
    with Way(*data) as way:
        assert list(bot.stream([Message("user", MARKED)], think=None, stop=lambda: False))
    assert way.rooms == ["serve", "tokenizer", "serve", "engine", "tokenizer"], way.stops
    assert way.changes <= 4


def test_a_request_goes_from_its_body_to_its_answer_in_six_changes(model, tokenizer):
    """Two more than a message of the terminal: the engine checks it before the answer begins."""
    engine = Engine(model.eval(), Limits(rows=1), tokenizer=tokenizer)
    served = Served("m", engine, tokenizer, "")
    data = Datum(text=MARKED, ids=tokenizer.encode(MARKED)), Datum(kind=Piece)
    with Way(*data) as way:
        table = {"messages": [{"role": "user", "content": MARKED}], "max_tokens": 4, "ignore_eos": True}
        body = fields.parse(fields.ChatBody, table)
        asked = openai.chat(body, served)
        reply, choice = Reply(asked, 0, tokenizer), Choice()
        for token in stream(engine, asked.requests[0]):
            for delta in reply.read(token):
                choice.add(delta)
        assert openai.Chat(body, served, asked).whole([choice], Usage(1))["choices"]
    assert way.rooms == ["serve", "tokenizer", "serve", "engine", "serve", "engine", "tokenizer"], way.stops


def test_weights_go_out_and_in_by_the_rooms_that_know_files(tmp_path, model, tokenizer):
    stage, opened = "pretrain", Run.create(tmp_path / "run", {"name": "ways", "stages": []})
    optimizer = Optimizer(model, OptimConfig())
    datum = Datum(floats=torch.linspace(1, 2, model.spec.d_model))
    optimizer.master["norm.weight"].copy_(datum.floats)
    with opened.locked() as locked:
        session = Session(locked, stage, Mesh(0, 1, torch.device("cpu")), Stop(), Energy("cpu", units=1))
        tokenizer.save(locked.stage_dir("tokenizer"))
        made = {"tokenizer": "tokenizer", "fingerprint": tokenizer.fingerprint}
        locked.log("stage_end", stage="tokenizer", outputs=made)
        with Way(datum) as out:
            outputs = models.save_model(session, model, optimizer, tokenizer)
        session.log("stage_end", outputs=outputs)
        with Way(datum) as into:
            loaded = models.load_model(dataclasses.replace(session, stage="sft"), stage)
    assert torch.equal(loaded.norm.weight, datum.floats)
    assert out.rooms == ["stages", "weights"], out.stops  # a float32 model and its masters are one
    assert into.rooms == ["weights", "stages"], into.stops
