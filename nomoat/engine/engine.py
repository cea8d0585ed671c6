"""One engine for chat, evaluation, rollouts and servers: schedule, run, postprocess.

Requests enter and leave a batch while it runs; prompts are computed in chunks beside rows that go on;
samples of one prompt share it, and a prefix that is in the cache is not computed again.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import get_args

import torch

from nomoat.config import ConfigError
from nomoat.engine.batch import Batch, Drawn, gathered
from nomoat.engine.blocks import BLOCK, Blocks, n_blocks
from nomoat.engine.draft import FEW_ROWS, Drafts, Pace, by_depth, by_lookup
from nomoat.engine.grammar import Compiler
from nomoat.engine.native import build
from nomoat.engine.native.layout import Precision
from nomoat.engine.native.runner import NativeRunner
from nomoat.engine.request import Request, Stop, Token
from nomoat.engine.runner import Runner, TorchRunner
from nomoat.engine.sampling import choose, masked, scored, shaped, truncated
from nomoat.engine.scheduler import Part, Row, Scheduler
from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import Tokenizer

ROWS = 256  # that run at the same time
STEP_TOKENS = 512  # of a step, about: for so long a row that goes on waits for prompts
CACHE_BYTES = 1 << 30
MOST_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at the same time; `cache_bytes` bounds the blocks, `step_tokens` the length of a step."""

    rows: int = ROWS
    step_tokens: int = STEP_TOKENS
    cache_bytes: int = CACHE_BYTES

    def __post_init__(self) -> None:
        bounds = {"rows": MOST_ROWS, "step_tokens": 1 << 20, "cache_bytes": 1 << 50}
        for name, most in bounds.items():
            if not 1 <= getattr(self, name) <= most:
                found = getattr(self, name)
                raise ConfigError(f"{name} = {found}; expected 1 or more, {most:,} at most")


class Engine:
    """Continues the requests that are submitted, a token of each row a step.

    `compiled`: whether steps are computed by step.c; None: where that is possible.  `precision` int8 stores
    the weights of a compiled step in a quarter of the memory; bf16 multiplies in bfloat16 and sums in
    float32, several times as fast where build.tiles().  `tokenizer` is needed for stop strings and
    for grammars, which `compiler` makes.  One thread owns an engine.
    """

    def __init__(
        self,
        model: Transformer,
        limits: Limits | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        compiled: bool | None = None,
        precision: Precision = "as is",
        drafts: Drafts = "off",
    ):
        self.model, self.tokenizer, self.drafts = model, tokenizer, drafts
        self.compiler = None if tokenizer is None else Compiler(tokenizer)
        self.limits = limits = limits or Limits()
        spec = model.spec
        compiled = is_compiled(model, compiled, precision, drafts)
        runner = NativeRunner if compiled else TorchRunner
        self.block_bytes = runner.block_bytes(model)
        n = min(
            max(limits.cache_bytes // self.block_bytes, 1), limits.rows * n_blocks(spec.context)
        )
        self.blocks = Blocks(n)
        self.runner: Runner = runner(model, n, precision) if compiled else runner(model, n)
        self.scheduler = Scheduler(
            self.blocks, limits.rows, limits.step_tokens, min(n, n_blocks(spec.context))
        )
        self.n_requests = 0
        self.stepping = threading.Lock()
        self.unread: dict[int, deque[Token]] = {}  # of requests whose tokens someone waits for
        self.pace = Pace()

    def limit(self, request: Request) -> int:
        """How many ids a row of the request has at most."""
        return min(len(request.prompt) + request.max_new_tokens, self.model.spec.context)

    def check(self, request: Request, name: str = "the prompt") -> None:
        """DataError or ConfigError for what can't be continued; any thread may ask."""
        spec = self.model.spec
        request.check(spec.vocab_size, spec.context, name)
        limit = self.limit(request)
        if n_blocks(limit) > self.blocks.n:
            raise ConfigError(
                f"the cache holds {self.blocks.n * BLOCK} positions; "
                f"expected room for the {limit} of one row; raise cache_bytes or shorten the reply"
            )
        if request.stop and self.tokenizer is None:
            raise ConfigError(
                "stop strings need the engine's tokenizer; pass it, or use stop_ids"
            )

    def submit(self, request: Request, name: str = "the prompt") -> int:
        """The request's number.  DataError or ConfigError, before anything is computed, if it can't be
        continued.
        """
        self.check(request, name)
        number = self.n_requests
        self.n_requests += 1
        limit = self.limit(request)
        row = Row(number, 0, request, list(request.prompt), limit, n_twins=request.n - 1)
        self.scheduler.waiting.append(row)
        return number

    def cancel(self, number: int) -> None:
        """The request computes nothing from the next step on."""
        self.unread.pop(number, None)
        scheduler = self.scheduler
        for row in [row for row in scheduler.running if row.number == number]:
            scheduler.leave(row)
        scheduler.waiting = deque(row for row in scheduler.waiting if row.number != number)

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def refresh(self) -> None:
        """The model's weights have changed: what was computed from them is forgotten."""
        if self.busy:
            raise RuntimeError("weights can't change while rows run")
        self.blocks.forget()
        self.runner.refresh()

    def step(self) -> list[Token]:
        """Each running row's new tokens, in their order; computes chunks of prompts beside them."""
        if not self.stepping.acquire(blocking=False):
            raise RuntimeError("two threads step one engine; expected one thread that owns it")
        try:
            return self._step()
        finally:
            self.stepping.release()

    def _step(self) -> list[Token]:
        self.pace.begin()
        parts = self.scheduler.schedule()
        if not parts:
            return []
        step = gathered(parts, self.scheduler.tables)
        drawn = self.runner.run(step.batch)
        for part, out in zip(parts, step.scored):
            if out:
                self.score(part.row, drawn.logits[out.start : out.stop])
        tokens = self.postprocess(parts, step.outs, drawn)
        if self.drafts != "off":
            self.guess(parts, step.batch, tokens)
        return tokens

    def postprocess(
        self, parts: Sequence[Part], outs: Sequence[range], drawn: Drawn
    ) -> list[Token]:
        """What was drawn becomes the rows' next tokens; rows that end leave."""
        tokens: list[Token] = []
        for part, out in zip(parts, outs):
            row, n_own = part.row, len(out) - len(part.twins)
            for twin, place in zip(part.twins, out[n_own:]):
                self.share(row, part.n, twin)
                tokens += self.take(twin, out=[place], drawn=drawn)
            if n_own == 1 and not row.drafts:
                tokens.append(self.token(row, out[0], drawn))
                row.ids.append(tokens[-1].id)
                self.scheduler.computed(row, part.n)
                if tokens[-1].stop:
                    self.scheduler.leave(row)
            elif n_own:
                tokens += self.take(row, out[:n_own], drawn)
            else:
                self.scheduler.computed(row, part.n)
        return tokens

    def score(self, row: Row, logits_MV: torch.Tensor) -> None:
        """The next of the prompt's ids are scored."""
        n = len(row.scores) + 1
        row.scores += scored(logits_MV, row.ids[n : n + len(logits_MV)], row.request.prompt_logprobs)

    def share(self, row: Row, n: int, twin: Row) -> None:
        """What was computed is the twin's, too: the block that both will write is copied."""
        n_full, rest = divmod(row.n_computed + n, BLOCK)
        if rest:
            self.runner.copy(row.blocks[n_full], twin.blocks[n_full])
        twin.n_cached = row.n_prompt
        twin.n_computed = row.n_computed + n

    def take(self, row: Row, out: Sequence[int], drawn: Drawn) -> list[Token]:
        """The row's next tokens: one, and one more for each guess that was right."""
        tokens = []
        guesses, row.drafts = row.drafts, []
        for guess, place in zip_longest(guesses, out):
            token = self.token(row, place, drawn)
            row.ids.append(token.id)
            tokens.append(token)
            if token.stop or token.id != guess:
                break
        self.pace.accepted += len(tokens) - 1
        if guesses:
            tokens[0] = tokens[0]._replace(n_drafts=len(guesses), n_accepted=len(tokens) - 1)
        self.scheduler.computed(row, len(row.ids) - 1 - row.n_computed)
        if tokens[-1].stop:
            self.scheduler.leave(row)
        return tokens

    def token(self, row: Row, place: int, drawn: Drawn) -> Token:
        """The token drawn at `place`, chosen again where the request asks for more than temperature."""
        thinking = row.request.thinking
        id = drawn.ids[place]
        logp = drawn.logps[place]
        top = plain = None
        closes = thinking is not None and row.n_thinking >= thinking.budget
        if closes or not row.plain:
            forced = thinking.close_id if closes else None
            logits_V = drawn.logits[place]
            id, logp, top, plain = chosen(logits_V, row, forced)
        stop = self.stop(row, id)
        n_cached = None if row.n_new else row.n_cached
        asked = row.request.prompt_logprobs is not None and not row.n_new
        prompt = tuple(row.scores) if asked else None
        return Token(row.number, row.sample, id, logp, stop, top, plain, n_cached, prompt)

    def stop(self, row: Row, id: int) -> Stop | None:
        """Why the row ends with this token, if it does."""
        request = row.request
        row.take(id)
        if row.matcher and row.matcher.broken:
            return "grammar"
        if id in request.stop_ids or (row.matcher and row.matcher.done):
            return "end"
        if request.stop:
            ends = [text.encode() for text in request.stop]
            text = row.text + self.tokenizer.token_bytes(id)
            if any(end in text for end in ends):
                return "stop"
            row.text = text[-max(map(len, ends)) :]
        return "length" if len(row.ids) + 1 >= row.limit else None

    def guess(self, parts: Sequence[Part], batch: Batch, tokens: Sequence[Token]) -> None:
        """Drafts for the rows that go on, while they are few and it pays."""
        rows = [part.row for part in parts if part.row.slot >= 0 and part.row.n_new]
        if not 0 < len(self.scheduler.running) <= FEW_ROWS or not rows:
            return
        self.pace.end(len(tokens))
        if not self.pace.guessing:
            return
        if self.drafts == "lookup":
            drafts = {row: by_lookup(row.ids) for row in rows}
        else:
            drafts = by_depth(self.runner, parts, batch)
        for row in rows:
            row.drafts = drafts.get(row, [])[: row.limit - len(row.ids) - 1]
            self.pace.guessed += len(row.drafts)


def chosen(
    logits_V: torch.Tensor, row: Row, forced: int | None
) -> tuple[int, float, tuple[tuple[int, float], ...] | None, float | None]:
    """The id by the row's own rules, or the one that is forced; its log-probability; alternatives."""
    sampling = row.request.sampling
    logits = shaped(logits_V, sampling, row.request.prompt, row.ids[row.n_prompt :])
    logits = masked(logits, row.allowed(logits))
    temperature, uniform = sampling.temperature or 1.0, row.uniform(0)
    if forced is None:
        id_1, _ = choose(
            truncated(logits, sampling)[None], torch.tensor([uniform]), temperature
        )
        forced = int(id_1)
    logp = float((logits / temperature).log_softmax(-1)[forced])
    if sampling.top_logprobs is None:
        return forced, logp, None, None
    plain_V = logits_V.log_softmax(-1)
    best = plain_V.topk(min(sampling.top_logprobs, len(plain_V)))
    return (
        forced,
        logp,
        tuple(zip(best.indices.tolist(), best.values.tolist())),
        float(plain_V[forced]),
    )


def is_compiled(model: Transformer, compiled: bool | None, precision: str, drafts: str) -> bool:
    """Whether steps are compiled; ConfigError for what can't be."""
    for name, value, kind in (("precision", precision, Precision), ("drafts", drafts, Drafts)):
        if value not in get_args(kind):
            expected = ", ".join(get_args(kind))
            raise ConfigError(f"{name} = {value}; expected one of {expected}")
    possible = model.device.type == "cpu" and build.library() is not None
    if compiled and not possible:
        raise ConfigError(
            "compiled = true needs a C compiler and a model on the processor; leave it out"
        )
    if precision != "as is" and (compiled is False or not possible):
        raise ConfigError(
            f"precision = {precision} needs a compiled step; expected a C compiler, such as gcc, and a model "
            "on the processor; leave it out"
        )
    if drafts == "mtp" and not model.spec.n_mtp:
        raise ConfigError(
            "drafts = mtp: the model has no extra prediction depth; choose lookup or off"
        )
    return possible if compiled is None else compiled
