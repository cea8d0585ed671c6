"""Whatever the weights say, a reply holds to its grammar, behind its think block, alone and in company."""

import json
import random
import re
import sys

import borrowed
import pytest
from behind import random_model
from laws import alone, bits, finish, roomy, said, whole
from shapes import shape, varied

from nomoat.config import ConfigError, DataError
from nomoat.engine import grammar
from nomoat.engine.engine import Engine, Limits
from nomoat.engine.grammar import Compiler, of_choice, of_regex, of_schema
from nomoat.engine.request import Request, Sampling, Thinking
from nomoat.tokenizer import bpe
from nomoat.tokenizer.layout import NOMOAT

pytest.importorskip("llguidance")
validators = pytest.importorskip("jsonschema_rs")
SHORT = {"type": "string", "maxLength": 3}
SCHEMAS = (
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 70}, "b": SHORT},
     "required": ["a", "b"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["x", 1, None, True]}, "minItems": 1, "maxItems": 3},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"anyOf": [{"type": "null"}, {"const": "é\n\U0001f600"}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 1}}},
    {"type": "string", "format": "date"},
)  # fmt: skip
ENDS = frozenset(NOMOAT.stop_ids)


@pytest.fixture(scope="module")
def tokenizer():
    return bpe.train(['{"a": 12, "b": "abc def"} [true, null] yes no ' * 3], 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    spec = shape(
        vocab_size=tokenizer.vocab_size + 3, n_layers=2, d_model=16, n_heads=2, d_nope=4, d_rope=4, d_value=4,
        d_kv_latent=12, d_ffn=20, context=200,
    )  # fmt: skip
    return random_model(spec)


@pytest.fixture(scope="module")
def compiler(tokenizer):
    return Compiler(tokenizer)


@pytest.fixture(scope="module")
def quiet(model, tokenizer):
    return Engine(model, roomy(model, 64, rows=8), tokenizer=tokenizer)


def asked(made, key=0, prompt=(1, 4, 60, 61), **how) -> Request:
    return Request(list(prompt), how.pop("length", 120), stop_ids=ENDS, grammar=made, key=key, **how)


def text(tokenizer, tokens) -> str:
    ids = [token.id for token in tokens]
    assert not set(ids[:-1]) & set(NOMOAT.specials.values())
    return tokenizer.decode(ids)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
def test_replies_of_a_random_model_are_valid(model, tokenizer, compiler, compiled):
    engine = Engine(model, Limits(rows=16), compiled=compiled)
    numbers = {
        engine.submit(
            asked(compiler(of_schema(schema)), key, n=2, length=60, sampling=Sampling(temperature))
        ): schema
        for schema in SCHEMAS
        for key, temperature in enumerate((0.0, 1.0))
    }
    n_whole = 0
    for number, samples in said(finish(engine)).items():
        for tokens in samples.values():
            written = text(tokenizer, tokens)
            assert tokens[-1].stop in ("end", "length")
            if tokens[-1].stop == "end":
                n_whole += 1
                assert validators.is_valid(numbers[number], json.loads(written)), written
                assert not re.search(r"\s", re.sub(r'"[^"]*"|[,:] ', "", written))
    assert n_whole > 15  # of 24; the others were cut in the middle


def test_expressions_and_choices_hold(tokenizer, compiler, quiet):
    for key in range(8):
        sampled = {"sampling": Sampling(3.0), "key": key}
        tokens = alone(quiet, asked(compiler(of_regex(r"[a-f]+/\d{2}\n?")), **sampled))[0]
        assert tokens[-1].stop == "length" or re.fullmatch(r"[a-f]+/\d{2}\n?", text(tokenizer, tokens))
        tokens = alone(quiet, asked(compiler(of_choice(['a"\\', "a", "</think>"])), **sampled))[0]
        assert text(tokenizer, tokens) in ('a"\\', "a", "</think>")


def test_alone_and_in_company_cancelled_or_guessed_it_says_the_same(model, compiler, tokenizer, quiet):
    """Cramped, so that rows give their blocks back; others leave in the middle; plain rows stand beside."""
    for drafts in ("off", "lookup"):
        engine = Engine(model, roomy(model, 9, rows=5), drafts=drafts)
        wishes = [
            asked(compiler(of_schema(SCHEMAS[n % 6])), n, sampling=Sampling(1.5), n=1 + n % 2)
            for n in range(9)
        ]
        wishes += [Request([1, 4, 60, 61, n], 30, seed=n) for n in range(3)]
        numbers = {engine.submit(one): one for one in wishes}
        cancelled, tokens = list(numbers)[1::4], []
        for n in range(10**4):
            engine.pace.guessing = True
            if n in (3, 6, 9):
                engine.cancel(cancelled[n // 3 - 1])
            tokens += engine.step()
            whole(engine)
            if not engine.busy:
                break
        found = said(tokens)
        for number, one in numbers.items():
            if number not in cancelled:
                assert bits(found[number]) == bits(alone(quiet, one))


@pytest.mark.parametrize("opened", [True, False])
def test_the_grammar_applies_behind_the_think_block(tokenizer, compiler, quiet, opened):
    made = compiler(of_choice(["yes", "no"]))
    thinking = Thinking(7, NOMOAT.think_id, NOMOAT.end_think_id, opened)
    n_closed = 0
    for key in range(12):
        bias = {NOMOAT.think_id: 6.0 if key % 2 else 40.0, NOMOAT.end_think_id: 2.0}
        ids = [
            t.id for t in alone(quiet, asked(made, key, thinking=thinking, sampling=Sampling(bias=bias)))[0]
        ]
        if NOMOAT.think_id in ids:
            assert ids[0] == NOMOAT.think_id
            assert not opened
        if NOMOAT.end_think_id in ids:
            n_closed += 1
            chain, ids = ids[: ids.index(NOMOAT.end_think_id)], ids[ids.index(NOMOAT.end_think_id) + 1 :]
            assert len(chain) <= 8
            assert not set(chain[1:]) & set(NOMOAT.specials.values())
        assert tokenizer.decode(ids) in ("yes", "no")
        assert not set(ids[:-1]) & set(NOMOAT.specials.values())
    assert n_closed == 12 if opened else n_closed > 3


@pytest.mark.parametrize("kind", borrowed.KINDS)
def test_every_kind_of_tokenizer_spells_it(kind):
    """At random, so that each of its ids that is allowed comes: text of the schema, and no control id."""
    foreign, one = borrowed.made(kind), {"enum": ["ö 1", 2.5]}
    made = Compiler(foreign)(of_schema({"type": "object", "properties": {"ä": one}, "required": ["ä"]}))
    for seed in range(8):
        draw, matcher, ids = random.Random(seed), made.matcher(), []
        while not matcher.done:
            ids.append(draw.choice(matcher.allowed(foreign.vocab_size).nonzero()[:, 0].tolist()))
            matcher.take(ids[-1])
        assert not matcher.broken
        assert not set(ids) & set(foreign.layout.specials.values())
        assert foreign.decode(ids) in ('{"ä": "ö 1"}', '{"ä": 2.5}')


def test_why_it_ends_is_said(compiler, tokenizer, quiet):
    made = compiler(of_regex("a{50}"))
    assert alone(quiet, asked(made, length=5))[0][-1].stop == "length"
    assert alone(quiet, asked(made))[0][-1].stop == "end"  # without a stop id: nothing can follow
    assert alone(quiet, asked(made, stop=("aaaaa",)))[0][-1].stop == "stop"
    wide = compiler(of_regex("(a{1,1000}){1,1000}"))
    assert (
        alone(quiet, asked(wide, sampling=Sampling(bias=dict.fromkeys(ENDS, -100.0))))[0][-1].stop
        == "grammar"
    )


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {}}, "not"),
        ({"properties": {"a": {"if": {}, "then": {}}}}, "if"),
        ({"contains": {}}, "contains"),
        ({"propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"dependentRequired": {"a": []}}, "dependentRequired"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"type": "string", "format": "colour"}, "format"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"pattern": "(?=a)"}, "pattern"),
        ({"pattern": r"(a)\1"}, "pattern"),
        ({"$ref": "http://example.org/a"}, r"\$ref"),
        ({"$ref": "#/nowhere"}, r"\$ref"),
        ({"type": "text"}, "type"),
        ({"$schema": "http://example.org/x"}, "meta-schema"),
        ({"enum": []}, "anyOf"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "not"),
        ({"properties": 3}, "properties"),
        ({"$ref": "#"}, "allows no text"),
        ({"enum": ["x" * 200_000]}, "at most 100,000"),
        ([], "object"),
        (True, "object"),
    ],
)  # fmt: skip
def test_what_cannot_be_enforced_is_refused_by_name(compiler, schema, name):
    with pytest.raises(ConfigError, match=name):
        compiler(of_schema(schema))


def test_other_bad_grammars_are_refused(compiler, model, quiet):
    for source in (
        lambda: of_regex("["),
        lambda: of_regex("(?<=a)b"),
        lambda: of_choice([]),
        lambda: of_choice([""]),
    ):
        with pytest.raises(ConfigError, match="regular expression|choice"):
            compiler(source())
    foreign = Compiler(bpe.train(["abc " * 50, "xyz"], 290))(of_choice(["a"]))
    small = random_model(varied(model.spec, vocab_size=200))
    with pytest.raises(DataError, match="the model has 200"):
        Engine(small).submit(asked(foreign))


def test_a_finished_text_is_checked(compiler):
    made = compiler(of_schema(SCHEMAS[0]))
    assert made.wrong('{"a": 3, "b": ""}') is None
    assert "less than the minimum" in made.wrong('{"a": 2, "b": ""}')
    assert "required" in made.wrong('{"a": 3}')
    assert made.wrong('{"a": 3, ')
    assert compiler(of_regex("a")).wrong("whatever") is None
    assert "recursion" in compiler(of_schema({"items": {"$ref": "#"}})).wrong("[" * 9999 + "]" * 9999)


@pytest.mark.parametrize("name", ["llguidance", "jsonschema_rs"])
def test_without_the_extra_it_says_what_to_install(tokenizer, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"nomoat\[grammar\]"):
        Compiler(tokenizer)(of_schema({}))


def test_keys_are_not_made_up_where_nothing_is_said_of_them(compiler, tokenizer, quiet):
    one = {"type": "object", "properties": {"a": {"const": 1}}}
    nested = {"type": "array", "items": one, "minItems": 1, "maxItems": 1}
    for schema, texts in (
        (one, {"{}", '{"a": 1}'}),
        (nested, {"[{}]", '[{"a": 1}]'}),
        ({"anyOf": [one]}, {"{}", '{"a": 1}'}),
        ({"$ref": "#/$defs/o", "$defs": {"o": one}}, {"{}", '{"a": 1}'}),
    ):
        for key in range(4):
            tokens = alone(quiet, asked(compiler(of_schema(schema)), key, sampling=Sampling(2.0)))[0]
            assert text(tokenizer, tokens) in texts
    combined = {"allOf": [one, {"properties": {"b": {"const": 2}}, "required": ["b"]}]}
    tokens = alone(quiet, asked(compiler(of_schema(combined)), sampling=Sampling(0.0)))[0]
    assert '"b": 2' in text(tokenizer, tokens)


def test_a_grammar_is_made_once(compiler, monkeypatch):
    made = compiler(of_choice(["once"]))
    monkeypatch.setattr(grammar, "_library", None)
    assert compiler(of_choice(["once"])) is made


@pytest.mark.check
@pytest.mark.parametrize("prompt", ["Q: 2+2? A:", "Name a colour as JSON."])
def test_a_foreign_model_holds_to_a_schema(prompt):
    from nomoat.serve.loading import load

    loaded = load("smollm2")
    made = Compiler(loaded.tokenizer)(of_schema(SCHEMAS[0]))
    engine = Engine(loaded.model, tokenizer=loaded.tokenizer)
    request = Request(
        loaded.tokenizer.encode(prompt),
        60,
        stop_ids=frozenset(loaded.tokenizer.layout.stop_ids),
        grammar=made,
        n=3,
    )
    for tokens in alone(engine, request).values():
        assert made.wrong(loaded.tokenizer.decode([token.id for token in tokens])) is None
