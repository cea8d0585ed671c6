"""Every number in every configuration has a range; what is outside is told before anything is computed."""

import importlib
import math
import pkgutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nomoat
from nomoat.config import ConfigError, Strict, UserError, override, parse, read_recipe
from nomoat.plan.budget import estimate
from nomoat.stages import recipe as recipes

SMOKE = Path(__file__).parents[1] / "recipes" / "smoke.toml"
LOWER, UPPER = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def records(kind=Strict):
    for module in pkgutil.walk_packages(nomoat.__path__, "nomoat."):
        if not module.name.startswith(("nomoat.sandbox", "nomoat.__main__")):
            importlib.import_module(module.name)
    found = list(kind.__subclasses__())
    for sub in found:
        found += [inner for inner in sub.__subclasses__() if inner not in found]
    return [sub for sub in found if sub.__module__.startswith("nomoat.")]


def numbers(schema, place=()):
    """(place, schema) of each number in a JSON schema."""
    if isinstance(schema, list):
        for inner in schema:
            yield from numbers(inner, place)
    elif isinstance(schema, dict):
        if schema.get("type") in ("integer", "number") and not {"enum", "const"} & set(schema):
            yield place, schema
        for key, inner in schema.items():
            yield from numbers(inner, (*place, key))


def test_every_number_of_every_record_has_a_range():
    classes = records()
    assert len(classes) > 30
    bare = set()
    for record in classes:
        for place, schema in numbers(record.model_json_schema()):
            if not LOWER & set(schema) or not UPPER & set(schema):
                bare.add(f"{record.__module__}.{record.__name__} {'.'.join(place)}")
    assert not bare


WRONG = [
    ("rl.group", "1"), ("rl.group", "0"), ("rl.prompts", "0"), ("eval.samples", "0"), ("eval.problems", "-1"),
    ("threads", "0"), ("threads", "-2"), ("pretrain.context", "0"), ("pretrain.context", "1"),
    ("models.main.context", "0"), ("pretrain.steps", "0"), ("sft.steps", "-3"), ("rl.optim.adam_lr", "-1.0"),
    ("rl.optim.adam_lr", "0.0"), ("pretrain.optim.muon_lr", "nan"), ("rl.temperature", "inf"),
    ("rl.max_new_tokens", "0"), ("rl.memory", "1.5"), ("rl.rewards.accuracy", "-1.0"),
    ("save_seconds", "-1.0"),
    ("tokenizer.vocab_size", "0"), ("tokenizer.text_bytes", "0"), ("pretrain.shares.prose", "-0.5"),
    ("pretrain.first_rows", "0"), ("pretrain.ramp_steps", "-1"), ("pretrain.chains", "1.5"),
    ("sft.optim.betas", "[0.9, 1.0]"), ("distill.prompts", "0"), ("distill.policy_steps", "-1"),
    ("eval.ngram_orders", "[0]"), ("reject.samples", "0"), ("rl.tasks", "{}"), ("rl.tasks.lamp", "[]"),
    ("rl.clip", "[-0.1, 0.2]"), ("pretrain.objective.mtp_weight", "-0.1"), ("seed", "1e400"),
    ("models.main.n_layers", "10000000000"), ("pretrain.steps", "9" * 40),
    ("pretrain.optim.clip_norm", "0.0"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), WRONG, ids=[f"{p}={v[:12]}" for p, v in WRONG])
def test_a_number_that_cannot_be_is_told_with_its_place(place, value):
    with pytest.raises(ConfigError, match=rf"`{place}(\.\d+|\.float)?`|{place}"):
        recipes.resolve(read_recipe(SMOKE, [f"{place}={value}"]))


def places():
    """Where a recipe has numbers: (stage or model or nothing, key, schema)."""
    table = read_recipe(SMOKE)
    kinds = {entry["kind"] for entry in table["stages"]}
    for kind in sorted(kinds):
        schema = recipes.module_of(kind).Config.model_json_schema(by_alias=False)
        for key, field in schema["properties"].items():
            yield from ((f"{kind}.{key}", found) for _, found in numbers(field))
    settings_of = recipes._Settings.model_json_schema()["properties"]
    for key, field in settings_of.items():
        yield from ((key, found) for _, found in numbers(field))


def drawn(schema):
    """Numbers at, within and beyond the ends of a range."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    ends = [low, high, low - 1, high + 1, low + 1, -3, 0, 1, 2, 7]
    if schema["type"] == "integer":
        return st.sampled_from([int(end) for end in ends]) | st.integers(int(low), min(int(high), 10**4))
    odd = [math.inf, -math.inf, math.nan, 1e300, 5e-324]
    return st.sampled_from([float(end) for end in ends] + odd) | st.floats(float(low), float(high))


CASES = [(place, schema) for place, schema in places() if "text_bytes" not in place]


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_drawn_number_is_refused_or_can_be_planned(data):
    place, schema = data.draw(st.sampled_from(CASES))
    value = data.draw(drawn(schema))
    table = read_recipe(SMOKE)
    override(table, f"{place}={value!r}")
    try:
        lines = estimate(recipes.resolve(table))
    except UserError as error:
        assert str(error)
        return
    assert all(line.seconds >= 0 and line.money >= 0 for line in lines)


def test_lists_and_tables_of_numbers_have_ranges_too():
    class Both(Strict):
        shares: dict[str, recipes.Levels] = {}

    with pytest.raises(ConfigError, match=r"x\.shares\.a"):
        parse(Both, {"shares": {"a": []}}, "x")


WORDS = {
    "pretrain.steps=0": "`pretrain.steps` = 0: expected 1 or more; choose such a number",
    "pretrain.steps=1.5": "expected a whole number; write one, without quotes and point",
    "pretrain.optim.clip_norm=0.0": "expected more than 0.0; choose such a number",
    "rl.kl=nan": "expected a finite number; choose one",
    "rl.tasks={}": "expected 1 or more of them; add some",
    "rl.tasks=7": "expected a table; write it in { }",
    "pretrain.text=7": "expected a text; write it in quotes",
    'pretrain.precision="f8"': "expected one of 'bf16' or 'fp32'; choose one",
}


@pytest.mark.parametrize("setting", WORDS)
def test_a_wrong_value_is_told_what_was_expected_and_what_to_do(setting):
    with pytest.raises(ConfigError) as told:
        recipes.resolve(read_recipe(SMOKE, [setting]))
    assert WORDS[setting] in str(told.value)
    assert "Input should" not in str(told.value)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "lock", "recipe.json", "-x", "a b", "x" * 97])
def test_what_becomes_a_folder_has_a_name_that_stays_within(name):
    with pytest.raises(ConfigError, match="`name` = .*: expected a name of letters"):
        recipes.resolve(read_recipe(SMOKE, [f"name={name!r}"]))
    if name:  # without one, a stage is called as its kind is
        with pytest.raises(ConfigError, match="a stage is called .*; expected letters"):
            recipes.resolve(read_recipe(SMOKE, [f"export.name={name!r}"]))


def test_a_recipe_has_stages():
    with pytest.raises(ConfigError, match=r"`stages` = \[\]: expected one or more"):
        recipes.resolve(read_recipe(SMOKE, ["stages=[]"]))


@pytest.mark.parametrize("key", ["pretrain.text", "tokenizer.hub", "tokenizer.hub.name", "sft.hub.split"])
def test_a_name_of_nothing_is_refused(key):
    """It would be read as if it were not there."""
    table = read_recipe(SMOKE)
    if key.endswith("split"):
        override(table, "sft.hub.name=some")
    override(table, f"{key}=''")
    with pytest.raises(ConfigError, match="expected a word; write one"):
        recipes.resolve(table)


def test_a_table_that_a_recipe_may_leave_out_is_set_too():
    assert recipes.resolve(read_recipe(SMOKE, ["mesh.shard=2"])).mesh.shard == 2
    with pytest.raises(ConfigError, match="unknown key `mesh.shards`; did you mean `shard`"):
        recipes.resolve(read_recipe(SMOKE, ["mesh.shards=2"]))


def test_a_key_is_set_once():
    with pytest.raises(ConfigError, match="`pretrain.steps` is set 2 times"):
        read_recipe(SMOKE, ["pretrain.steps=3", "seed=1", "pretrain.steps = 4"])


def test_a_list_of_nothing_is_not_told(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("seed = 1\n")
    with pytest.raises(ConfigError, match="no `rl` in the recipe; nothing is known by a name here"):
        read_recipe(path, ["rl.tasks=lamp"])
