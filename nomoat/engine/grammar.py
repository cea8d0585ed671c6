"""Constrained decoding: replies that hold to a JSON schema, a regular expression or a list of texts.

llguidance says which ids may come next; what it can't enforce is refused before anything is computed.  No
control id is ever among them but those that end a reply, and those only where the text is whole.  JSON is
written with one blank behind each comma and colon that parts it, and no other white space.
"""

import importlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nomoat.config import ConfigError, DataError, JsonObject
from nomoat.files import visible
from nomoat.tokenizer.bpe import Tokenizer

LONGEST = 100_000  # characters of a grammar
STEP_FUEL = 50_000  # what may be built for one token: some 20 ms
KEPT = 64  # grammars that a compiler remembers
_WRITTEN = {
    "whitespace_flexible": False, "whitespace_pattern": None, "item_separator": ", ", "key_separator": ": ",
    "coerce_one_of": False, "lenient": False,
}  # fmt: skip
_MAPS = ("properties", "patternProperties", "$defs", "definitions")  # names -> schemas
_SCHEMAS = ("items", "prefixItems", "additionalItems", "additionalProperties", "anyOf")
_COMBINED = {"allOf", "oneOf"}
_OPEN = {"additionalProperties", "patternProperties", "minProperties", "$ref", "anyOf"}
_KEYWORDS = (  # where llguidance speaks of a keyword without its name
    (r"Unknown format", "format"),
    (r"range: min=Some", "minimum"),
    (r"range: min=None", "maximum"),
    (r"regex|look-around|backreference", "pattern"),
    (r"Resource '|Pointer '", "$ref"),
    (r"Invalid type", "type"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A grammar as it is written, in Lark's form.  `what` is what errors call it, `schema` the JSON of what a
    finished text is checked against, `functions` names and schemas of what may be called.
    """

    lark: str
    what: str
    schema: str | None = None
    functions: tuple[tuple[str, str], ...] = ()


def of_schema(schema: object, what: str = "the schema") -> Source:
    """JSON that a schema allows.  ConfigError for what is no schema."""
    return Source(f"start: {inside(schema, what)}", what, json.dumps(schema))


def of_regex(pattern: str, what: str = "the regular expression") -> Source:
    """Text that the expression matches from its first to its last character."""
    escaped = re.sub(
        r"\\.|/|\n", lambda m: {"/": r"\/", "\n": r"\n"}.get(m[0], m[0]), pattern, flags=re.DOTALL
    )
    return Source(f"start: /{escaped or '()'}/", what)


def of_choice(texts: Sequence[str], what: str = "the choice") -> Source:
    """One of the texts."""
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{what} = {texts!r}; expected one text or more, none of them empty")
    return Source(f"start: {' | '.join(map(quoted, texts))}", what)


def inside(schema: object, what: str) -> str:
    """A schema as a term of Lark's form.  ConfigError for what is no schema.

    Where it names properties and says nothing of others, none are made up; not where it combines schemas.
    """
    if not isinstance(schema, dict):
        raise ConfigError(f"{what} = {str(schema)[:80]}; expected a JSON schema, which is an object")
    _validator(schema, what)
    closed = schema if _COMBINED & {*_names(schema)} else _closed(schema)
    return f"%json {json.dumps({**closed, 'x-guidance': _WRITTEN})}"


def _closed(schema: Any) -> Any:
    """The schema, its objects with properties closed unless it says otherwise."""
    if not isinstance(schema, dict):
        return schema
    inner = dict(schema)
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, dict):
            inner[name] = {key: _closed(one) for key, one in value.items()}
        elif name in _SCHEMAS:
            inner[name] = [*map(_closed, value)] if isinstance(value, list) else _closed(value)
    if "properties" in schema and not _OPEN & schema.keys():
        inner["additionalProperties"] = False
    return inner


def _names(value: Any) -> Iterator[str]:
    """All keys within a value of JSON."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(inner)


def quoted(text: str) -> str:
    """A text as a term of Lark's form."""
    return json.dumps(text, ensure_ascii=False)


class Compiler:
    """Makes grammars for the ids of one tokenizer.  Any thread may ask; the first time takes half a second
    for 50,000 ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._kept: OrderedDict[Source, Grammar] = OrderedDict()

    def __call__(self, source: Source) -> "Grammar":
        """ConfigError for what can't be enforced, with the keyword's name, or without llguidance."""
        if len(source.lark) > LONGEST:
            found = f"{source.what} has {len(source.lark):,} characters"
            raise ConfigError(f"{found}; expected at most {LONGEST:,}; shorten it")
        with self._lock:
            grammar = self._kept.pop(source, None) or self._made(source)
            self._kept[source] = grammar
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return grammar

    @cached_property
    def _table(self) -> Any:
        ends = [*self._tokenizer.layout.stop_ids]
        return _library("llguidance").LLTokenizer(_Words(self._tokenizer), eos_token=ends)

    @cached_property
    def _spoken_V(self) -> Tensor:
        spoken_V = torch.ones(self._tokenizer.vocab_size, dtype=torch.bool)
        spoken_V[[*self._tokenizer.layout.specials.values()]] = False
        return spoken_V

    def _made(self, source: Source) -> "Grammar":
        library = _library("llguidance")
        limits = library.LLParserLimits(step_lexer_fuel=STEP_FUEL)
        first = library.LLMatcher(self._table, source.lark, limits=limits, log_level=0)
        if first.is_error():
            raise ConfigError(_refused(source.what, first.get_error()))
        schemas = {None: source.schema, **dict(source.functions)}
        validators = {
            name: _validator(json.loads(schema), source.what) for name, schema in schemas.items() if schema
        }
        grammar = Grammar(first, self._spoken_V, validators)
        begin = grammar.matcher()
        if not begin.allowed(len(self._spoken_V)).any() or begin.broken:
            found = f"{source.what} allows no text that this model's tokens can spell"
            raise ConfigError(f"{found}; expected one or more; mend it")
        return grammar


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """What a reply has to hold to."""

    _first: Any
    spoken_V: Tensor  # True for the ids that are no control tokens
    _validators: dict[str | None, Any]  # by function; None: of the whole text

    def matcher(self) -> "Matcher":
        return Matcher(self._first.deep_copy(), self.spoken_V)

    def check(self, vocab_size: int) -> None:
        """DataError for a model with fewer ids than the grammar is for."""
        if (n := len(self.spoken_V)) > vocab_size:
            found = f"the grammar is for {n} ids and the model has {vocab_size}"
            raise DataError(f"{found}; expected one that was made with the model's tokenizer")

    def wrong(self, text: str, function: str | None = None) -> str | None:
        """What is wrong with a finished text of a schema, or with a function's arguments; None: nothing."""
        validator = self._validators.get(function)
        if validator is None:
            return None
        try:
            validator.validate(json.loads(text, parse_float=Decimal))
        except (ValueError, RecursionError) as error:  # of json or of the validator
            return visible(str(error).partition("\n")[0])[:300]
        return None


class Matcher:
    """How far one reply has come in its grammar."""

    def __init__(self, matcher: Any, spoken_V: Tensor) -> None:
        self._matcher, self._spoken_V = matcher, spoken_V

    def allowed(self, n_ids: int) -> Tensor:
        """True for the ids that may come next, of `n_ids`."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed_V = torch.from_numpy(np.unpackbits(bits, count=len(self._spoken_V), bitorder="little"))
        return _wide(allowed_V.bool(), n_ids)

    def before(self, n_ids: int, close_id: int) -> Tensor:
        """True for the ids that may come next within a think block: text, and what closes it."""
        allowed_V = _wide(self._spoken_V, n_ids).clone()
        allowed_V[close_id] = True
        return allowed_V

    def take(self, id: int) -> None:
        self._matcher.consume_token(id)

    @property
    def done(self) -> bool:
        """Whether the text is whole and can't go on."""
        return self._matcher.is_stopped()

    @property
    def broken(self) -> bool:
        """Whether llguidance gave up: to enforce the grammar takes too much."""
        return self._matcher.is_error()


class _Words:
    """A tokenizer as llguidance asks for it: the bytes of each id, and which are control ids."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        specials = tokenizer.layout.specials
        words = [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
        self._encode = tokenizer.encode
        self._ids = {text: id for id, text in enumerate(words) if text}
        self._longest = max(map(len, self._ids))
        self.eos_token_id = tokenizer.layout.stop_ids[0]
        self.special_token_ids = sorted(specials.values())
        for text, id in specials.items():
            words[id] = text.encode()
        self.tokens = words

    def __call__(self, text: str) -> list[int]:
        """Ids whose bytes are the text's: the tokenizer's own, or else the longest one by one."""
        whole = text.encode()
        ids = self._encode(text)
        if b"".join(self.tokens[id] for id in ids) == whole:  # no content gives a control id
            return ids
        ids, place = [], 0
        while place < len(whole):
            ends = range(min(place + self._longest, len(whole)), place, -1)
            end = next((end for end in ends if whole[place:end] in self._ids), None)
            if end is None:
                return []
            ids.append(self._ids[whole[place:end]])
            place = end
        return ids


def _wide(allowed_V: Tensor, n_ids: int) -> Tensor:
    """For a model with more rows than the tokenizer has ids: those are never allowed."""
    return torch.nn.functional.pad(allowed_V, (0, n_ids - len(allowed_V)))


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"constrained decoding needs {name}, which isn't installed; "
            "expected the extra: pip install 'nomoat[grammar]'"
        ) from None


def _validator(schema: JsonObject, what: str) -> Any:
    """Checks finished texts; ConfigError for what is no JSON schema.  Nothing is fetched, no expression takes
    more than linear time, and a format is what the grammar takes it for.
    """
    library = _library("jsonschema_rs")
    options = {"validate_formats": False, "pattern_options": library.RegexOptions(), "offline": True}
    try:
        return library.validator_for(schema, **options)
    except ValueError as error:
        raise ConfigError(_refused(what, str(error))) from None


def _refused(what: str, message: str) -> str:
    """The sentence for a grammar that can't be had, with the keyword that is spoken of."""
    reason = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", message)
    reason = re.split(r"\n +\d+ \||\n+Failed validating|\n<state>", reason)[0]
    names = _keywords(reason, message) if "schema" in what else []
    named = f"{', '.join(names)} in {what}" if names else what
    said = visible(" ".join(reason.split()))[:300]
    return f"{named} can't be enforced: {said}; expected what llguidance can hold a reply to; leave it out"


def _keywords(reason: str, message: str) -> list[str]:
    if unknown := re.search(r'Unimplemented keys: (\["[^\]]+"\])', reason):
        return json.loads(unknown[1])
    if place := re.search(r"On instance((?:\[[^\]]+\])+)", message):
        return re.findall(r'\["([^"]+)"\]', place[1])[-1:]
    return [name for sign, name in _KEYWORDS if re.search(sign, reason)][:1]
