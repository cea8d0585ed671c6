"""A server with a tiny model that has learned one answer, and the clients that were installed to ask it."""

import contextlib
import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from shapes import shape, varied
from torch.nn.functional import cross_entropy

from nomoat.model.transformer import Transformer
from nomoat.tokenizer import bpe, layout
from nomoat.tokenizer.layout import Message
from nomoat.weights import export

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CLIENTS = Path(os.environ.get("NOMOAT_CLIENTS", Path(sys.prefix) / "clients"))  # `make clients` fills it
ANSWER = "The lamp is on."
CALL = '<tool_call>{"name": "weather", "arguments": {"location": "Paris"}}</tool_call>'
SPEC = shape(
    vocab_size=320, n_layers=2, d_model=32, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=16,
    d_ffn=48, context=4096,
)  # fmt: skip


@functools.cache
def taught() -> tuple[Transformer, bpe.Tokenizer]:
    """A model that says ANSWER to whatever it is asked, and knows how a call that it has to make goes on."""
    text = f"{ANSWER} {CALL} user, system: what is it? Die Lampe ist an. "
    tokenizer = bpe.train([text * 20], SPEC.vocab_size)
    torch.manual_seed(0)
    model = Transformer(SPEC).initialise(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = random.Random(0)
    for _ in range(160):
        ids, trained = zip(*[chat(tokenizer, draw) for _ in range(8)])
        width = max(map(len, ids))
        ids_BT = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids])
        trained_BT = torch.tensor([[*row, *[False] * (width - len(row))] for row in trained])
        logits_BTV = model(ids_BT[:, :-1])
        loss = cross_entropy(logits_BTV[trained_BT[:, 1:]], ids_BT[:, 1:][trained_BT[:, 1:]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    return model.eval(), tokenizer


def exported(directory: Path, context: int) -> Path:
    trained, tokenizer = taught()
    model = Transformer(varied(SPEC, context=context))
    model.load_state_dict(trained.state_dict())
    export.to_directory(model, directory, tokenizer=tokenizer, card="", type="f32")
    return directory


def chat(tokenizer: bpe.Tokenizer, draw: random.Random) -> tuple[list[int], list[bool]]:
    """A conversation about anything, and its answer."""
    text = "".join(draw.choices('abc {}":.\n', k=draw.randrange(1, 120)))
    system = [Message("system", text[::2])] if draw.random() < 0.5 else []
    answer = CALL if draw.random() < 0.25 else ANSWER
    turns = [*system, Message("user", text), Message("assistant", answer)]
    rendered = layout.render(tokenizer, turns, generate=False)
    return rendered.ids, rendered.trained


@dataclass(frozen=True)
class Served:
    """Where the server is, and where its model lies."""

    base: str  # http://127.0.0.1:PORT
    directory: Path


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Served]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nomoat", "serve", str(directory), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        address = process.stdout.readline().strip()
        assert address.endswith("/v1")
        yield Served(address.removesuffix("/v1"), directory)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="session")
def serve():
    """Serves a directory of weights for the time of a block."""
    return serving


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    with serving(exported(tmp_path_factory.mktemp("served") / "lamp", 4096)) as made:
        yield made


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    """A server whose replies end soon, whatever is asked."""
    with serving(exported(tmp_path_factory.mktemp("short") / "lamp", 320)) as made:
        yield made


@pytest.fixture(scope="session")
def long(tmp_path_factory):
    """A server with room for all that an assistant tells of itself."""
    with serving(exported(tmp_path_factory.mktemp("long") / "lamp", 1 << 16)) as made:
        yield made


def environment(served: Served) -> dict[str, str]:
    """Nothing but this machine can be reached."""
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    proxies = {name: "http://127.0.0.1:9" for upper in names for name in (upper, upper.lower())}
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    here = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost", "BASE": served.base}
    return {**kept, **proxies, **here, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def run(served):
    """What a command says; fails with all that it said where it fails."""

    def said(command: Sequence[str | Path], *, codes=(0,), seconds: int = 600, **more: str) -> str:
        env = environment(served) | more
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=seconds, cwd=served.directory
        )
        assert done.returncode in codes, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return said


@pytest.fixture
def installed():
    """A program among the clients; skips where it isn't."""

    def found(program: str) -> Path:
        paths = (CLIENTS / "bin" / program, CLIENTS / "node_modules" / ".bin" / program)
        for path in paths:
            if path.exists():
                return path
        pytest.skip(f"no {program} in {CLIENTS}: make clients")

    return found


@pytest.fixture
def python(installed, run):
    """Runs a script of this folder with the clients' Python; skips where its package isn't there."""

    def ask(package: str, script: str, *arguments: str) -> str:
        interpreter = installed("python")
        if subprocess.run([interpreter, "-c", f"import {package}"], capture_output=True).returncode:
            pytest.skip(f"no {package} in {CLIENTS}: make clients")
        return run([interpreter, HERE / script, *arguments])

    return ask


@pytest.fixture
def node(run):
    """Runs a script of this folder with Node; skips where its package isn't there."""

    def ask(package: str, script: str) -> str:
        if shutil.which("node") is None:
            pytest.skip("no node on this machine")
        if not (CLIENTS / "node_modules" / package).exists():
            pytest.skip(f"no {package} in {CLIENTS}: make clients")
        copy = CLIENTS / script  # packages are looked for beside the script
        copy.write_text((HERE / script).read_text("utf-8"), "utf-8")
        return run(["node", copy])

    return ask
