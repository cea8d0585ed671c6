"""The doors, walked through: a toy of each, one new file or function and one row, run for real.

Nothing else of the package is touched, so what passes here is all that an addition has to change.
"""

import importlib
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from nomoat.config import WeightsError
from nomoat.model.transformer import Transformer
from nomoat.plan.budget import estimate, resolve
from nomoat.report.receipt import receipt_of
from nomoat.rl.variants import VARIANTS, Variant, by_token, plain
from nomoat.run.directory import Run
from nomoat.run.stop import Stop
from nomoat.stages.pipeline import run_stages
from nomoat.stages.recipe import KINDS
from nomoat.tasks import contract, find
from nomoat.weights import directory, families

TASK = '''
"""Echoing: write a number again.  Level = its digits."""

from nomoat.tasks.base import Problem, Rng, check, language, others

levels = (2, 3)


def make(rng: Rng, level: int) -> Problem:
    number = "".join(rng.choices("0123456789", k=level + 2))
    lang = language(rng)
    prompt = {"en": f"Write {number} again.", "de": f"Schreibe {number} noch einmal."}[lang]
    return Problem(prompt, f"echoing {number}", f" {number}", {"lang": lang})


def near_misses(problem: Problem) -> list[str]:
    number = problem.witness.strip()
    return others(problem, number[:-1], number + number[-1], "-" + number)


def work(problem: Problem) -> str:
    return problem.witness
'''
STAGE = '''
"""A second cold start: as sft, on half of its steps."""

from nomoat.stages import fit
from nomoat.stages.models import stored


class Config(fit.Config):
    model: str | None = None


def run(session, config, recipe):
    outputs = fit.fit(session, config, recipe, stored(session, config.source))
    return {**outputs, "bought": "an echo"}


plan = fit.plan
'''
OBJECTIVE = '''
"""Best of a group: only the best rollouts count, the rest has no gradient."""


def best_of_group(rewards):
    return [[float(r == max(group) > min(group)) for r in group] for group in rewards]
'''
FAMILY = '''
"""`toy`: grouped queries and dense layers, gate and up apart."""

from nomoat.config import parse
from nomoat.model.spec import Spec

SAME = {"vocabulary": "vocab_size", "depth": "n_layers", "width": "d_model", "positions": "context"}


def spec_of(config, names):
    heads = {"n_heads": config["heads"], "n_kv_heads": config["groups"], "d_head": config["head_width"]}
    table = {
        **{ours: config[theirs] for theirs, ours in SAME.items()},
        "attention": {"kind": "grouped", **heads},
        "ffn": {"kind": "dense", "d_hidden": config["hidden"]},
        "tied": "unembedding" not in names,
    }
    return parse(Spec, table, "config.json")


def config_of(spec):
    a = spec.attention
    heads = {"heads": a.n_heads, "groups": a.n_kv_heads, "head_width": a.d_head, "hidden": spec.ffn.d_hidden}
    return {"model_type": "toy", **heads, **{theirs: getattr(spec, ours) for theirs, ours in SAME.items()}}


def slots(model):
    views = {"embedding": model.embed.weight, "scale": model.norm.weight, "unembedding": model.head.weight}
    for i, block in enumerate(model.blocks):
        for name, parameter in block.named_parameters():
            views[f"layer{i}/{name}"] = parameter
        gate_up = views.pop(f"layer{i}/ffn.w_gate_up.weight")
        views[f"layer{i}/gate"], views[f"layer{i}/up"] = gate_up.chunk(2)
    return views


def copies(model):
    return {}
'''
MODEL = {
    "n_layers": 1, "d_model": 16, "context": 96, "ffn": {"kind": "dense", "d_hidden": 16},
    "attention": {"kind": "latent", "n_heads": 1, "d_nope": 8, "d_rope": 4, "d_value": 8, "d_kv_latent": 8},
}  # fmt: skip
TRAINING = {
    "steps": 2,
    "rows": 2,
    "context": 96,
    "precision": "fp32",
    "text_bytes": 9_000,
    "task_documents": 40,
}
ANSWERS = {"max_new_tokens": 8, "tasks": {"echoing": [2]}}
WORDS = {"tasks": {"lamp": [4]}}


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Adds a file to a package, as if it lay beside the others."""

    def put(package: str, name: str, source: str):
        folder = tmp_path / package
        folder.mkdir()
        (folder / f"{name}.py").write_text(source, "utf-8")
        parent = importlib.import_module(package)
        monkeypatch.setattr(parent, "__path__", [*parent.__path__, str(folder)])
        monkeypatch.setattr(parent, name, None, raising=False)  # and away again, once it was imported
        monkeypatch.delitem(sys.modules, f"{package}.{name}", raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(f"{package}.{name}")

    before = set(sys.modules)
    find.find.cache_clear()
    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    find.find.cache_clear()


def recipe(*stages: dict):
    first = {"kind": "tokenizer", "vocab_size": 300, "text_bytes": 9_000, "task_documents": 40, **WORDS}
    head = {"name": "toys", "threads": 1, "models": {"main": MODEL}}
    return resolve({**head, "stages": [first, *stages]})


def finished(root, recipe) -> Run:
    run = Run.create(root, recipe.table)
    with Stop() as stop:
        assert run_stages(run, recipe, stop) == [stage.name for stage in recipe.stages]
    return run


def pretrain(**tasks) -> dict:
    return {"kind": "pretrain", "shares": {"tasks": 1.0}, **TRAINING, **(tasks or WORDS)}


def add_task(add, monkeypatch):
    monkeypatch.setattr(find, "FAMILIES", (*find.FAMILIES, "echoing"))
    return add("nomoat.tasks.families", "echoing", TASK)


def test_a_task_is_one_file_and_one_row(add, monkeypatch, tmp_path):
    """It keeps the contract, stands in the list, is trained on, rewarded and measured."""
    task = add_task(add, monkeypatch)
    by_file = find.load_file(task.__file__)  # for the other process that reads it too
    assert contract.contract(by_file, 50) == []
    assert find.families()["echoing"] is find.find("echoing") is task
    reinforced = {"kind": "rl", "steps": 2, "prompts": 2, "group": 2, **ANSWERS}
    measured = {
        "kind": "eval",
        "problems": 2,
        "samples": 2,
        "ngram_orders": [],
        "heldout_bytes": 900,
        **ANSWERS,
    }
    run = finished(tmp_path / "run", recipe(pretrain(tasks={"echoing": [2]}), reinforced, measured))
    scores = [event for event in run.events("score") if event.get("family") == "echoing"]
    assert {event["model"] for event in scores} == {"pretrain", "rl"}
    rollouts = [
        json.loads(line) for line in (run.root / "rl" / "rollouts.jsonl").read_text("utf-8").splitlines()
    ]
    assert all(rollout["prompt"].startswith(("Write", "Schreibe")) for rollout in rollouts)
    assert len(rollouts) >= 8


def test_a_stage_is_one_file_and_one_row(add, monkeypatch, tmp_path):
    """It has its end in the log, its row in receipt and plan, and its weights can be measured."""
    add("nomoat.stages", "s9_toy", STAGE)
    monkeypatch.setitem(KINDS, "toy", "s9_toy")
    toy = {"kind": "toy", "from": "pretrain", "shares": {"tasks": 1.0}, **TRAINING, **WORDS}
    measured = {"kind": "eval", "models": ["toy"], "problems": 2, "samples": 2, "ngram_orders": [],
                "heldout_bytes": 900, "max_new_tokens": 8, **WORDS}  # fmt: skip
    wanted = recipe(pretrain(), toy, measured)
    run = finished(tmp_path / "run", wanted)
    assert run.finished("toy")["outputs"]["bought"] == "an echo"
    assert [row.stage for row in receipt_of(run).rows] == [stage.name for stage in wanted.stages]
    assert [line.stage for line in estimate(wanted)] == [stage.name for stage in wanted.stages]
    assert {event["model"] for event in run.events("score") if event.get("family")} == {"toy"}


def test_a_stage_that_leaves_weights_is_followed_by_the_next(add, monkeypatch):
    add("nomoat.stages", "s9_toy", STAGE)
    monkeypatch.setitem(KINDS, "toy", "s9_toy")
    toy = {"kind": "toy", "shares": {"tasks": 1.0}, **TRAINING, **WORDS}
    assert recipe(pretrain(), toy, {"kind": "export"}).stage("export").source == "toy"


def test_an_objective_is_one_function_and_one_row(add, monkeypatch, tmp_path):
    """It is asked for by its name and its advantages are those that the policy follows."""
    best = add("nomoat.rl", "toy", OBJECTIVE).best_of_group
    calls = []

    def advantage(rewards):
        calls.append(rewards)
        return best(rewards)

    monkeypatch.setitem(VARIANTS, "best", Variant(advantage, by_token, plain, (0.0, 0.0)))
    reinforced = {
        "kind": "rl",
        "variant": "best",
        "steps": 2,
        "prompts": 2,
        "group": 4,
        "max_new_tokens": 8,
        **WORDS,
    }
    run = finished(tmp_path / "run", recipe(pretrain(), reinforced))
    assert len(run.curve("rl")) == 2
    assert calls


def test_a_family_of_published_weights_is_one_file_and_one_row(add, monkeypatch, tmp_path):
    """Its directory, written with its names, is loaded as the same model, and written again as it was."""
    config = {"model_type": "toy", "vocabulary": 50, "depth": 2, "width": 16, "positions": 32}
    config |= {"heads": 4, "groups": 2, "head_width": 8, "hidden": 24}
    with pytest.raises(WeightsError, match="model_type 'toy'"):
        families.family("toy")
    toy = add("nomoat.weights.families", "toy", FAMILY)
    monkeypatch.setitem(families.FAMILIES, "toy", "toy")
    published, written = tmp_path / "published", tmp_path / "written"
    published.mkdir()
    model = Transformer(toy.spec_of(config, {"unembedding"})).initialise(3)
    tensors = {name: view.detach().clone() for name, view in toy.slots(model).items()}
    save_file(tensors, published / "model.safetensors")
    (published / "config.json").write_text(json.dumps(config), "utf-8")

    loaded = directory.load(published)
    ids_BT = torch.arange(20)[None]
    assert torch.equal(loaded(ids_BT), model(ids_BT))
    directory.save(loaded, written, model_type="toy")
    assert load_file(written / "model.safetensors").keys() == tensors.keys()
    assert config.items() <= json.loads((written / "config.json").read_text("utf-8")).items()
    assert torch.equal(directory.load(written)(ids_BT), model(ids_BT))
    with pytest.raises(WeightsError, match="grouped-query attention"):
        directory.save(loaded, written, model_type="deepseek_v3")


def test_nothing_of_a_toy_stays(add):
    toys = {"nomoat.stages.s9_toy", "nomoat.tasks.families.echoing", "nomoat.rl.toy"}
    assert not {*toys, "nomoat.weights.families.toy"} & set(sys.modules)
    assert "echoing" not in find.FAMILIES
