"""What is asked of the engine: a prompt to be continued, how its tokens are chosen, when it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal, NamedTuple

from torch import Tensor

from nomoat.config import ConfigError, DataError
from nomoat.engine.grammar import Grammar

TOP = 20  # log-probabilities beside the chosen one, at most
FAR = 1e4  # settings beyond it mean nothing, and lead out of float32
Stop = Literal["end", "stop", "length", "grammar"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen from logits: penalties, temperature, then truncation, in this order.

    temperature 0 is greedy.  `top_k` keeps the k most probable tokens, `top_p` (arXiv 1904.09751) the
    fewest whose probabilities sum to p, `min_p` (arXiv 2407.01082) those at least p times as probable as
    the best. `repetition` (CTRL, arXiv 1909.05858) divides positive and multiplies negative logits of ids
    that stand in prompt or reply, `presence` and `frequency` are taken from the logits of ids in the reply,
    once and for each time.  `bias` is added to the logits of its ids.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = (
        None  # how many alternatives to tell of each token, with their log-probabilities
    )

    def __post_init__(self) -> None:
        cold, far = self.temperature == 0, f"{-FAR:.0f} to {FAR:.0f}; 0 changes nothing"
        bounds = {
            "temperature": (
                cold or 1 / FAR <= self.temperature <= FAR,
                f"0 (greedy), or {1 / FAR} to {FAR:.0f}",
            ),
            "top_k": (self.top_k is None or (whole(self.top_k) and self.top_k >= 1), "1 or more, or None"),
            "top_p": (0 < self.top_p <= 1, "more than 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "0 to 1"),
            "repetition": (
                1 / FAR <= self.repetition <= FAR,
                f"{1 / FAR} to {FAR:.0f}; 1 changes nothing",
            ),
            "presence": (abs(self.presence) <= FAR, far),
            "frequency": (abs(self.frequency) <= FAR, far),
            "bias": (
                all(abs(bias) <= FAR for bias in self.bias.values()),
                f"{far}, -100 rules an id out",
            ),
            "top_logprobs": (
                self.top_logprobs is None
                or (whole(self.top_logprobs) and 0 <= self.top_logprobs <= TOP),
                f"0 to {TOP}, or None",
            ),
        }
        for name, (possible, expected) in bounds.items():
            if not possible:
                raise ConfigError(f"{name} = {getattr(self, name)}; expected {expected}")

    @property
    def plain(self) -> bool:
        """Whether a token is drawn from softmax(logits / temperature) as it is."""
        return not (self.truncates or self.penalised or self.top_logprobs is not None)

    @property
    def truncates(self) -> bool:
        return self.top_k is not None or self.top_p < 1 or self.min_p > 0

    @property
    def penalised(self) -> bool:
        return bool(self.repetition != 1 or self.presence or self.frequency or self.bias)


@dataclass(frozen=True, slots=True)
class Thinking:
    """At most `budget` tokens between the think marks: then the closing one is set."""

    budget: int
    open_id: int
    close_id: int
    opened: bool  # whether the prompt ends within a block

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise ConfigError(f"thinking budget = {self.budget}; expected 0 or more tokens")


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """`n` continuations of one prompt.  What sample j draws is keyed by (seed, key, j), by nothing beside it.

    A continuation ends at one of `stop_ids` ("end"), where its text holds one of `stop` ("stop"; the engine
    needs a tokenizer for it), after `max_new_tokens` or at the model's context ("length").

    With a `grammar` it holds to that, behind its think block if it has one: where `thinking` is given and
    the prompt opens none, it may open one first if the model likes nothing better.  It ends at a stop id or
    where the grammar has no more ("end"); "grammar" says that llguidance gave up on the way.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    stop_ids: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    thinking: Thinking | None = None
    n: int = 1
    seed: int = 0
    key: int = 0
    prompt_logprobs: int | None = None  # how many alternatives to tell of each of the prompt's own ids
    grammar: Grammar | None = None

    def check(self, vocab_size: int, context: int, name: str = "the prompt") -> None:
        """DataError or ConfigError for what can't be continued."""
        for field_name in ("max_new_tokens", "n", "seed", "key"):
            number = getattr(self, field_name)
            if not whole(number):
                raise ConfigError(f"{field_name} = {number!r}; expected a whole number")
            if field_name in ("max_new_tokens", "n") and number < 1:
                raise ConfigError(f"{field_name} = {number}; expected 1 or more")
        top = self.prompt_logprobs
        if top is not None and not (whole(top) and 0 <= top <= TOP):
            raise ConfigError(f"prompt_logprobs = {top}; expected 0 to {TOP}, or None")
        if isinstance(self.stop, str):
            raise ConfigError(f"stop = {self.stop!r}; expected a tuple of texts, as ({self.stop!r},)")
        for text in self.stop:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ConfigError(
                    f"the stop string {text!r} has half a surrogate pair; expected text"
                ) from error
        if "" in self.stop:
            raise ConfigError(
                "a stop string is empty; expected a character or more; leave it out"
            )
        if len(self.prompt) == 0:
            raise DataError(
                f"{name} is empty; expected one id or more, such as the beginning-of-text id"
            )
        if len(self.prompt) >= context:
            raise DataError(
                f"{name} has {len(self.prompt)} ids and the model's context is {context}; "
                f"expected at most {context - 1}; shorten it or extend the context"
            )
        if self.grammar is not None:
            self.grammar.check(vocab_size)
        marks = [self.thinking.open_id, self.thinking.close_id] if self.thinking else []
        for what, ids in {
            name: self.prompt,
            "the logit bias": self.sampling.bias,
            "thinking": marks,
        }.items():
            if wrong := [id for id in ids if not whole(id)]:
                raise DataError(f"{what} names id {wrong[0]!r}; expected a whole number")
            if len(ids) and not 0 <= min(ids) <= max(ids) < vocab_size:
                wrong = next(id for id in ids if not 0 <= id < vocab_size)
                raise DataError(f"{what} names id {wrong}; expected 0 to {vocab_size - 1}")


def whole(number: object) -> bool:
    """Whether it is an integer: of Python, numpy, or a tensor of one."""
    if type(number) is int:  # most of them
        return True
    if isinstance(number, Tensor):
        return number.ndim == 0 and not number.is_floating_point()
    return isinstance(number, Integral)


class Scored(NamedTuple):
    """What a model expected where it read an id: its log-probability under softmax(logits), and the most
    probable ids with theirs.
    """

    logp: float
    top: tuple[tuple[int, float], ...]


class Token(NamedTuple):  # which is made faster than a frozen dataclass
    """One token of sample `sample` of a request; `stop` says why it was the last one, if it was.

    `logp` is its log-probability under softmax(logits / temperature) behind all penalties and the grammar,
    before truncation. `top` are the most probable ids with theirs, under softmax(logits), if asked for.
    `n_cached`, on the first token of each sample: how many ids of the prompt were not computed for it,
    since the cache had them; a sample that shares the prompt of the first one counts all of them.
    `prompt`, on the first token of each sample: the prompt's ids but the first, scored, if asked for.
    `n_drafts` and `n_accepted`, on the first token of a step: how many ids were guessed for this step, and
    how many of them were right.
    """

    request: int
    sample: int
    id: int
    logp: float
    stop: Stop | None = None
    top: tuple[tuple[int, float], ...] | None = None
    plain_logp: float | None = None  # of `id` under softmax(logits), beside `top`
    n_cached: int | None = None
    prompt: tuple[Scored, ...] | None = None
    n_drafts: int = 0
    n_accepted: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation.  `ids_T` holds the new ids, the stop id included.

    `logp_T` (float32) is each id's log-probability under the policy at the sampling temperature.
    """

    ids_T: Tensor
    logp_T: Tensor
    stop: Stop

    @property
    def written(self) -> list[int]:
        """The new ids without the one that ended them."""
        ids = self.ids_T.tolist()
        return ids[:-1] if self.stop == "end" else ids
