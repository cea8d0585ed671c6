"""Which rows compute which of their tokens in the next step."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from nomoat.engine.blocks import BLOCK, Blocks, n_blocks
from nomoat.engine.grammar import Matcher
from nomoat.engine.request import Request, Scored, Thinking
from nomoat.engine.sampling import uniforms


@dataclass(slots=True, eq=False)
class Row:
    """One continuation as it grows.  `drafts` are guesses behind `ids`, checked by the next step."""

    number: int  # of its request
    sample: int
    request: Request
    ids: list[int]
    limit: int  # of len(ids)
    drafts: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    n_computed: int = 0
    n_cached: int | None = None  # of the prompt, when it was admitted first
    n_twins: int = 0  # samples of the same prompt that still wait for it to be computed
    slot: int = -1  # of the tables of blocks
    n_prompt: int = field(init=False)
    plain: bool = field(init=False)  # whether tokens are taken as they are drawn
    n_thinking: int = -1  # tokens since a think block was opened; -1: outside of one
    text: bytes = b""  # the end of the reply, for stop strings
    uniform_T: list[float] | None = None  # one number a new token, once the first was drawn
    scores: list[Scored] = field(default_factory=list)  # of the prompt's ids behind the first, if asked for
    matcher: Matcher | None = field(init=False)  # how far the reply has come in its grammar

    def __post_init__(self) -> None:
        self.n_prompt = len(self.request.prompt)
        grammar = self.request.grammar
        self.matcher = None if grammar is None else grammar.matcher()
        self.plain = self.request.sampling.plain and grammar is None
        thinking = self.request.thinking
        if thinking and thinking.opened:
            self.n_thinking = 0

    @property
    def n_new(self) -> int:
        return len(self.ids) - self.n_prompt

    @property
    def n_unscored(self) -> int:
        """How many of the prompt's ids are still to be scored."""
        asked = self.request.prompt_logprobs is not None and self.sample == 0
        return self.n_prompt - 1 - len(self.scores) if asked else 0

    def uniform(self, k: int) -> float:
        """The number that the k-th token from here is drawn with; negative for the most probable one."""
        if not self.request.sampling.temperature:
            return -1.0
        if self.uniform_T is None:
            key = (self.request.key, self.sample)
            self.uniform_T = uniforms(self.request.seed, [key], self.limit - self.n_prompt)[
                0
            ].tolist()
        place = len(self.ids) - self.n_prompt + k
        return self.uniform_T[place] if place < len(self.uniform_T) else 0.0

    def allowed(self, logits_V: Tensor) -> Tensor | None:
        """True for the ids that may come next; None: all.  Before a grammar stands a think block only where
        that is what the model likes most.
        """
        matcher, thinking = self.matcher, self.request.thinking
        if matcher is None:
            return None
        if self.n_thinking >= 0:
            return matcher.before(len(logits_V), thinking.close_id)
        allowed_V = matcher.allowed(len(logits_V))
        if thinking and not thinking.opened and not self.n_new and logits_V.argmax() == thinking.open_id:
            allowed_V[thinking.open_id] = True
        return allowed_V

    def take(self, id: int) -> None:
        """Count the token within a think block, or go on with it in the grammar."""
        thinking, outside = self.request.thinking, self.n_thinking < 0
        if thinking:
            self.think(id, thinking)
        if self.matcher and outside and self.n_thinking < 0:
            self.matcher.take(id)

    def think(self, id: int, thinking: Thinking) -> None:
        """Count the tokens within a think block."""
        if id == thinking.close_id:
            self.n_thinking = -1
        elif id == thinking.open_id:
            self.n_thinking = 0
        elif self.n_thinking >= 0:
            self.n_thinking += 1


class Part(NamedTuple):
    """What a step computes of a row: its next `n` tokens; `twins` begin behind the last of them."""

    row: Row
    n: int
    twins: tuple[Row, ...] = ()


class Scheduler:
    """At most `n_rows` rows run; a step computes about `n_tokens` tokens: all rows that are being continued
    go on, and prompts are computed in chunks of what is left.  Where blocks run out, the row that came last
    gives its own back and starts again later.  A row has at most `row_blocks`.
    """

    def __init__(self, blocks: Blocks, n_rows: int, n_tokens: int, row_blocks: int):
        self.blocks, self.n_rows, self.n_tokens = blocks, n_rows, n_tokens
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []
        self.slots = list(range(n_rows))[::-1]
        self.tables = np.zeros((n_rows, row_blocks), dtype=np.int32)  # blocks of each slot

    def schedule(self) -> list[Part]:
        parts: list[Part] = []
        left, n_waiting = self.n_tokens, len(self.waiting)
        for row in list(self.running):
            if row.slot < 0:  # it has just given its blocks back
                continue
            pending = len(row.ids) + len(row.drafts) - row.n_computed
            n = (
                pending
                if pending <= BLOCK and len(row.ids) > row.n_prompt
                else min(pending, left)
            )
            if n > 0 and self.reserve(row, row.n_computed + n):
                parts.append(self.part(row, n))
                left -= n
        enough = len(self.waiting) == n_waiting  # blocks for all that ran
        while enough and self.waiting and left > 0 and len(self.running) < self.n_rows:
            row = self.waiting[0]
            if not self.admit(row):
                break
            self.waiting.popleft()
            n = min(len(row.ids) - row.n_computed, left)
            if self.reserve(row, row.n_computed + n):
                parts.append(self.part(row, n))
                left -= n
        parts = [part for part in parts if part.row.slot >= 0]
        for part in parts[::-1]:
            row = part.row
            reaches_end = row.n_computed + part.n >= len(row.ids)
            late = [self.twin(row) for _ in range(row.n_twins) if reaches_end]
            self.waiting.extendleft(late[::-1])
        return [
            part._replace(twins=tuple(t for t in part.twins if t.slot >= 0)) for part in parts
        ]

    def part(self, row: Row, n: int) -> Part:
        """The part with those twins of its row for which there is room now; the others will wait.

        A twin reads the row's full blocks, and has one of its own for the copy of the one that both will
        write.
        """
        n_full, rest = divmod(row.n_computed + n, BLOCK)
        twins = []
        while (
            row.n_twins
            and row.n_computed + n >= len(row.ids)
            and len(self.running) < self.n_rows
        ):
            if self.blocks.n_available <= len(self.running):
                break
            twin = self.twin(row)
            self.enter(twin)
            for block in row.blocks[:n_full]:
                self.blocks.hold(block)
            self.give(twin, row.blocks[:n_full])
            if rest:
                self.give(twin, [self.blocks.take()])
            twins.append(twin)
        return Part(row, n, tuple(twins))

    def twin(self, row: Row) -> Row:
        request, row.n_twins = row.request, row.n_twins - 1
        sample = request.n - 1 - row.n_twins
        return Row(row.number, sample, request, list(row.ids), row.limit, scores=row.scores)

    def enter(self, row: Row) -> None:
        row.slot = self.slots.pop()
        self.running.append(row)

    def admit(self, row: Row) -> bool:
        """Whether there are blocks for the row's ids now; then it runs, on the prefix that is known."""
        seen = [] if row.n_unscored else self.blocks.seen(row.ids)
        kept = sum(self.blocks.holders[block] == 0 for block in seen)
        missing = n_blocks(len(row.ids) + 1) - len(seen)
        if self.running and missing + kept > self.blocks.n_available:
            return False
        for block in seen:
            self.blocks.hold(block)
        self.enter(row)
        row.blocks, row.n_computed = [], len(seen) * BLOCK
        if row.n_cached is None:
            row.n_cached = row.n_computed
        self.give(row, seen)
        return True

    def reserve(self, row: Row, n_positions: int) -> bool:
        """Blocks for so many positions; the last rows make room.  False if the row itself had to."""
        while len(row.blocks) * BLOCK < n_positions:
            if self.blocks.n_available:
                self.give(row, [self.blocks.take()])
            else:
                last = self.running[-1]
                self.leave(last)
                self.waiting.appendleft(last)
                if last is row:
                    return False
        return True

    def give(self, row: Row, blocks: Sequence[int]) -> None:
        n = len(row.blocks)
        row.blocks += blocks
        self.tables[row.slot, n : n + len(blocks)] = blocks

    def leave(self, row: Row) -> None:
        """The row's blocks and slot are free again, the end of what it read sooner than the beginning."""
        for block in reversed(row.blocks):
            self.blocks.release(block)
        self.slots.append(row.slot)
        self.running.remove(row)
        row.blocks, row.n_computed, row.slot, row.drafts = [], 0, -1, []

    def computed(self, row: Row, n: int) -> None:
        """`n` more of the row's tokens are in the cache for good."""
        first = row.n_computed // BLOCK
        row.n_computed += n
        if row.n_computed >= (first + 1) * BLOCK:
            for place in range(first, row.n_computed // BLOCK):
                self.blocks.learn(row.blocks, place, row.ids)
