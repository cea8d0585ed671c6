"""An outside sampler: a server that speaks OpenAI's API writes the rollouts, with weights that it is handed.

It is asked with ids and answers with ids, so that no text is encoded anew, and with the log-probability of
each.  Before a step it gets the policy as a directory, by a request that it knows (`update`).
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from nomoat.config import ConfigError, Count, JsonObject, Strict, UserError, nearest
from nomoat.engine.generate import OnEnd
from nomoat.engine.request import Sample
from nomoat.files import new_directory, writing
from nomoat.model.transformer import Transformer
from nomoat.parallel.mesh import Mesh
from nomoat.rl import mismatch
from nomoat.rl.mismatch import Mismatch
from nomoat.rl.replies import PLAIN, Unusable, samples_of
from nomoat.rl.reward import Group
from nomoat.rl.wire import Away, Server, never
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory as weights
from nomoat.weights.export import without_depths

CHOICES = 8  # answers that one request asks for, at most


class Call(Strict):
    """A POST to the server, `path` behind its host; in texts of `body`, {directory} and {model} are filled
    in."""

    path: str = Field(pattern=r"^/[!-~]*$")
    body: JsonObject = {}


UPDATE = Call(path="/update_weights_from_disk", body={"model_path": "{directory}", "model": "{model}"})


class SamplerConfig(Strict):
    """Where rollouts are drawn: `url` up to /v1, `model` as the server calls it, `key` the environment
    variable that holds its API key.

    Weights go through `directory`, which this process writes and the server reads (by default in the run),
    before every `every`-th step; `update` is what the server is told then, in SGLang's words, which `nomoat
    serve --updates DIR` takes too.  `more` are fields of each request for samples, beside the usual ones or
    in their place.  `requests` are on their way at a time, of all ranks together; without any answer for
    `patience_seconds` the server is given up.  Importance weights are truncated at `clip`; a
    step whose tokens have a mean |d log p| above `bound` nats is refused (mismatch.py).
    """

    url: str = Field(pattern=r"^https?://[^/@?#\s]+(/[^?#\s]*)?/v1/?$")
    model: str = Field(min_length=1)
    key: str | None = None
    directory: str | None = None
    every: Count = 1
    update: tuple[Call, ...] = (UPDATE,)
    more: JsonObject = {}
    requests: Count = 32
    patience_seconds: float = Field(600.0, gt=0, le=1e6)
    clip: float = Field(2.0, ge=1, le=1e6)
    bound: float = Field(0.1, gt=0, le=1e6)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: samples `first` and following of prompt `prompt`."""

    prompt: int
    first: int
    body: JsonObject


class Outside:
    """The sampler of a stage.  `given_up()` says that nothing is waited for any more."""

    def __init__(
        self, sampler: SamplerConfig, directory: Path, mesh: Mesh, given_up: Callable[[], bool] = never
    ):
        self.sampler, self.mesh, self.given_up = sampler, mesh, given_up
        self.directory = Path(sampler.directory) if sampler.directory else directory
        self.failed = False
        how = {"found_again": self.tell, "given_up": self.over}
        self.server = Server(sampler.url, key_of(sampler), sampler.patience_seconds, **how)
        self.place: Path | None = None  # of the weights that it has now

    def over(self) -> bool:
        """Whether an answer is of no use any more."""
        return self.failed or self.given_up()

    # --- weights ---

    def renew(self, number: int, policy: Transformer, tokenizer: Tokenizer) -> None:
        """Hand over the weights that step `number` is to be drawn with, if they are due; collective."""
        if self.place is not None and number % self.sampler.every:
            return
        before, self.place = self.place, (self.directory / f"step_{number:06d}").absolute()
        self.mesh.together(partial(self.hand_over, policy, tokenizer, before is None))

    def hand_over(self, policy: Transformer, tokenizer: Tokenizer, first: bool) -> None:
        """Rank 0 writes and tells; what was handed over before is removed."""
        if self.mesh.rank:
            return
        if first:
            with writing(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
            self.knock()
        with new_directory(self.place) as directory, torch.no_grad():
            weights.save(without_depths(policy), directory, tokenizer=tokenizer)
        if first:
            with self.at_the_door():
                self.tell()
        else:
            self.server.patiently(self.tell, "the weights")
        for other in self.directory.glob("step_*"):
            if other != self.place:
                shutil.rmtree(other, ignore_errors=True)

    def knock(self) -> None:
        """ConfigError or UserError where there is no such server, or no such model."""
        with self.at_the_door():
            listed = self.server.once("GET", "/v1/models").get("data")
        names = [entry.get("id") for entry in listed or () if isinstance(entry, dict)]
        if self.sampler.model not in names:
            raise ConfigError(
                f"sampler.model = {self.sampler.model!r}: {self.sampler.url} has no such model; "
                f"{nearest(self.sampler.model, [name for name in names if isinstance(name, str)])}"
            )

    @contextlib.contextmanager
    def at_the_door(self) -> Iterator[None]:
        """Before anything is trained nothing is waited for."""
        try:
            yield
        except Away as away:
            raise UserError(
                f"sampler.url = {self.sampler.url}: no answer ({away}); expected a server that runs; start "
                "it first, as `nomoat serve MODEL --updates DIR`"
            ) from None

    def tell(self) -> None:
        """The server takes over what lies in `place`."""
        fields = {"{directory}": str(self.place), "{model}": self.sampler.model}
        for call in self.sampler.update:
            self.server.once("POST", call.path, filled(call.body, fields))

    # --- samples ---

    def draw(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        *,
        n_per_prompt: int,
        max_new_tokens: int,
        seed: int,
        stop_ids: Sequence[int],
        keys: Sequence[int],
        temperature: float = 1.0,
        on_end: OnEnd | None = None,
    ) -> list[list[Sample]]:
        """As engine.generate.sample, drawn by the server; UserError for what can't be used."""
        drawn: list[list[Sample]] = [[None] * n_per_prompt for _ in prompts]
        asks: list[Ask] = []
        for i, (prompt, key) in enumerate(zip(prompts, keys)):
            longest = min(max_new_tokens, model.spec.context - len(prompt))
            how = {"max_tokens": longest, "temperature": temperature, "stop_token_ids": [*stop_ids]}
            asks += self.asks(i, prompt, key, n_per_prompt, seed, how)
        n_threads = max(self.sampler.requests // self.mesh.world, 1)
        with ThreadPoolExecutor(n_threads) as pool, self.failing(pool):
            futures = {pool.submit(self.answer, ask, model.spec.vocab_size): ask for ask in asks}
            for future in as_completed(futures):
                ask = futures[future]
                for j, sample in enumerate(future.result(), ask.first):
                    drawn[ask.prompt][j] = sample
                    if sample.stop == "end" and on_end:
                        on_end(ask.prompt, j, sample.ids_T)
        return drawn

    def asks(
        self, i: int, prompt: Sequence[int], key: int, n: int, seed: int, how: JsonObject
    ) -> Iterator[Ask]:
        """The requests for one prompt; what each draws is keyed, and so the same when it is asked again."""
        usual = {"model": self.sampler.model, "prompt": [*prompt], **PLAIN}
        body = usual | how | self.sampler.more
        for first in range(0, n, CHOICES):
            own = {"n": min(CHOICES, n - first), "seed": seed_of(seed, key, first)}
            yield Ask(i, first, body | own)

    def answer(self, ask: Ask, vocab_size: int) -> list[Sample]:
        table = self.server.ask("POST", "/v1/completions", ask.body)
        try:
            return samples_of(table, ask.body, vocab_size)
        except Unusable as error:
            raise UserError(f"sampler {self.sampler.url}: {error}") from None

    @contextlib.contextmanager
    def failing(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """However it ends, no request goes on."""
        whole = False
        try:
            yield
            whole = True
        finally:
            if not whole:
                self.failed = True
                pool.shutdown(wait=False, cancel_futures=True)

    def weighed(
        self, number: int, model: Transformer, groups: Sequence[Group], temperature: float
    ) -> tuple[list[Group], Mismatch]:
        """The groups as mismatch.weighed gives them; UserError, on all ranks, for tokens that were drawn with
        too different probabilities.
        """
        groups, found = mismatch.weighed(model, groups, temperature, self.sampler.clip, self.mesh)
        if found.gap <= self.sampler.bound:
            return groups, found
        raise UserError(
            f"step {number + 1}: {self.sampler.url} drew its tokens with other probabilities than the model "
            f"that learns: mean |d log p| {found.gap:.3g} nats, largest {found.largest:.3g}; expected "
            f"{self.sampler.bound:g} at most (sampler.bound); it did not take over the weights in "
            f"{self.place}, or serves another model, or changes temperature or truncation: look at its log; "
            "where its number format alone is coarser, raise the bound; the checkpoints are kept, the same "
            "command goes on from there"
        )


def seed_of(*parts: int) -> int:
    """31 bits, which every server takes."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def filled(value: Any, fields: Mapping[str, str]) -> Any:
    """JSON with the fields in its texts filled in."""
    if isinstance(value, dict):
        return {name: filled(inner, fields) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, fields) for inner in value]
    if isinstance(value, str):
        for name, text in fields.items():
            value = value.replace(name, text)
    return value


def key_of(sampler: SamplerConfig) -> str | None:
    """The API key; ConfigError where its variable isn't set."""
    if sampler.key is None:
        return None
    if sampler.key not in os.environ:
        raise ConfigError(
            f"sampler.key = {sampler.key!r}: no such environment variable; expected one that holds the API "
            f"key; export {sampler.key}=…, or leave key out"
        )
    return os.environ[sampler.key]
