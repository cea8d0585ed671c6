"""The story that the README tells: one command from text to a chatbot, and everything that it leaves."""

import json
import re
import shutil

import pytest

from nomoat.run.directory import Run
from nomoat.serve import loading

STAGES = ["tokenizer", "pretrain", "extend", "sft", "rl", "distill", "eval", "export"]
TRAINED = ["pretrain", "extend", "sft", "rl", "distill"]


def test_every_stage_leaves_what_it_promises(smoke):
    run = Run.open(smoke.root)
    assert [e["stage"] for e in run.events("stage_end")] == STAGES
    assert (smoke.root / "tokenizer" / "tokenizer.json").is_file()
    for stage in TRAINED:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
            p.name for p in (smoke.root / stage / "model").iterdir()
        }
        curve = run.curve(stage)
        assert [e["step"] for e in curve] == list(range(1, curve[0]["n_steps"] + 1))
        assert all(e["loss"] is not None and e["flops_executed"] >= e["flops_model"] > 0 for e in curve)
    for path in run.finished("export")["outputs"]["exports"]:
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
            p.name for p in (smoke.root / path).iterdir()
        }


def test_learning_happens(smoke):
    losses = [e["loss"] for e in Run.open(smoke.root).curve("pretrain")]
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def test_the_result_is_on_stdout_and_the_progress_on_stderr(smoke):
    out, err = smoke.done.out, smoke.done.err
    for word in (
        "Receipt",
        "Greedy accuracy",
        "Sampled accuracy",
        "Bits per byte",
        "3-gram",
        "report.html",
        "nomoat chat",
    ):
        assert word in out
    assert [line.partition(":")[0] for line in err.splitlines() if ": done" in line] == STAGES
    assert "\x1b" not in out + err
    assert "Traceback" not in err


def test_run_again_says_that_it_is_done_and_changes_nothing(forge, smoke, recipe):
    before = (smoke.root / "events.jsonl").read_bytes()
    again = forge("run", recipe, "--out", smoke.root)
    assert again.code == 0
    assert "is done" in again.err
    assert "next:" in again.out
    assert re.search(rf"nomoat serve {re.escape(str(smoke.root))} +# .*in a browser", again.out)
    assert (smoke.root / "events.jsonl").read_bytes() == before


KINDS_OF_SCORES = {"accuracy", "bpb", "pass@2", "talk", "turn"}


def test_scores_and_receipt_are_json_and_agree_with_the_log(forge, smoke):
    scores = json.loads(forge("eval", smoke.root, "--json").out)
    assert set(scores["means"]) == set(TRAINED)
    assert {s["name"].partition("/")[0] for s in scores["scores"]} == KINDS_OF_SCORES
    receipt = json.loads(forge("receipt", smoke.root, "--json").out)
    events = Run.open(smoke.root).events()
    spent = [e for e in events if e["kind"] in ("step", "work")]
    assert [row["stage"] for row in receipt["rows"]] == STAGES
    for key in ("tokens", "flops_model", "flops_executed"):
        assert receipt["total"][key] == sum(e[key] for e in spent) == sum(row[key] for row in receipt["rows"])
    assert receipt["total"]["seconds"] == pytest.approx(sum(e["seconds"] for e in spent), rel=1e-12)


def test_it_talks_in_a_pipe(forge, smoke):
    said = forge("chat", smoke.root, "-p", "Sort the numbers: 3 1 2", "--max-tokens", "8")
    assert said.code == 0, said.err
    assert said.out.endswith("\n")
    assert "\x1b" not in said.out
    read = forge("chat", smoke.root, "-p", "-", "--max-tokens", "8", stdin="Sort the numbers: 3 1 2\n")
    assert (read.code, read.out) == (0, said.out)
    exported = forge("chat", smoke.root / "export" / "rl", "-p", "Sort the numbers: 3 1 2", "--max-tokens", "8")
    chosen = forge("chat", smoke.root, "--stage", "rl", "-p", "Sort the numbers: 3 1 2", "--max-tokens", "8")
    assert (exported.code, exported.out) == (0, chosen.out)


def test_stock_transformers_opens_the_export_and_gives_the_same_logits(forge, smoke, tmp_path):
    import torch
    import transformers

    
    out = tmp_path / "exported"
    assert forge("export", smoke.root, "--stage", "rl", "--out", out).out.strip() == str(out)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    ours = loading.load(smoke.root, stage="rl")
    text = "Die Lampe ist an. The lamp is on."
    ids_BT = torch.tensor([ours.tokenizer.encode(text)])
    assert transformers.AutoTokenizer.from_pretrained(out)(text)["input_ids"] == ids_BT[0].tolist()
    with torch.no_grad():
        assert (theirs(ids_BT).logits - ours.model(ids_BT)).abs().max() < 1e-4
    assert forge("export", smoke.root, "--out", out).code == 2


def test_stages_run_alone_and_end_in_the_same_bits(forge, smoke, recipe, tmp_path, weights, curve):
    root = tmp_path / "alone"
    assert forge("tokenizer", "--recipe", recipe, "--out", root).out == f"{root}/tokenizer\n"
    planned = forge("pretrain", "--out", root, "--plan")
    assert "estimated" in planned.out
    assert not (root / "pretrain").exists()
    done = forge("pretrain", "--out", root)
    assert (done.code, done.out) == (0, f"{root}/pretrain/model\n")
    assert weights(root, "pretrain") == weights(smoke.root, "pretrain")
    assert curve(root, "pretrain") == curve(smoke.root, "pretrain")
    early = forge("rl", "--out", root)
    assert early.code == 2
    assert "run sft first" in early.err
    assert "done already" in forge("pretrain", "--out", root).err


def test_a_stage_alone_takes_its_own_keys(forge, recipe, tmp_path):
    plan = forge(
        "pretrain",
        "--recipe",
        recipe,
        "--plan",
        "--json",
        "--set",
        "steps=3",
        "rows=2",
        "first_rows=2",
        "--set",
        "models.main.n_layers=2",
    )
    line = json.loads(plan.out)["lines"][0]
    assert line["tokens"] == 3 * 2 * 96
    whole = json.loads(forge("run", recipe, "--plan", "--json", cwd=tmp_path).out)
    assert [x["stage"] for x in whole["lines"]] == STAGES
    assert line["parameters"] < whole["lines"][1]["parameters"]
    assert list(tmp_path.iterdir()) == []


def test_the_page_stands_alone(smoke):
    text = (smoke.root / "report.html").read_text("utf-8")
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    assert "default-src 'none'" in markup
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", markup)
    assert not re.search(r"\bimport\b[^;]*\bfrom\b|\bfetch\(", markup)
    for stage in STAGES:
        assert f'"name":"{stage}"' in text.replace('": "', '":"')


def test_one_rank_and_two_learn_the_same(forge, smoke, recipe, tmp_path, weights, free_port):
    """The rows of each batch are parted, odd numbers too; the sums come in another order, so equal means
    nearly.
    """
    from safetensors.torch import load_file

    one, two = tmp_path / "one", tmp_path / "two"
    how = ("--recipe", recipe, "--set", "steps=6")
    for root in (one, two):
        assert (
            forge(
                "tokenizer", "--recipe", recipe, "--out", root, "--set", "pretrain.steps=6"
            ).code
            == 0
        )
    assert forge("pretrain", "--out", one, *how).code == 0
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    started = [forge.start("pretrain", "--out", two, *how, env={**env, "RANK": r, "LOCAL_RANK": r}) for r in ("0", "1")]
    ended = [forge.wait(s) for s in started]
    assert [d.code for d in ended] == [0, 0], ended
    a, b = Run.open(one).curve("pretrain"), Run.open(two).curve("pretrain")
    for x, y in zip(a, b, strict=True):  # the first step differs by rounding alone; Muon's bf16 makes that grow
        first = x["step"] == 1
        assert x["loss"] == pytest.approx(y["loss"], rel=1e-6 if first else 1e-4)
        assert x["grad_norm"] == pytest.approx(y["grad_norm"], rel=1e-6 if first else 1e-2)
        assert (x["tokens"], x["flops_model"]) == (y["tokens"], y["flops_model"])
    left, right = (load_file(root / "pretrain" / "model" / "model.safetensors") for root in (one, two))
    apart, size = (
        sum(float((t[k] ** 2).sum()) for k in left) ** 0.5 for t in ({k: left[k] - right[k] for k in left}, left)
    )
    assert apart < 0.01 * size


def test_what_reinforcement_did_can_be_looked_at(forge, smoke):
    for verb, words in (("learning", "is it learning?"), ("rollouts", "prompt")):
        done = forge(verb, smoke.root)
        assert done.code == 0
        assert words in done.out
    records = [json.loads(line) for line in forge("rollouts", smoke.root, "--json", "-n", "3").out.splitlines()]
    assert len(records) == 3
    assert {"step", "family", "prompt", "reply", "reward"} <= records[0].keys()


@pytest.mark.check
def test_how_far_it_carries_is_measured_once_and_several_runs_count_together(forge, smoke, tmp_path):
    runs = [tmp_path / name for name in ("a", "b")]
    for root in runs:
        shutil.copytree(smoke.root, root)
    one = forge("transfer", runs[0], "--quick")
    assert one.code == 0
    assert "How far does it carry?" in one.out
    before = (runs[0] / "events.jsonl").read_bytes()
    both = forge("transfer", *runs, "--quick", "--json")
    assert (runs[0] / "events.jsonl").read_bytes() == before
    assert len(json.loads(both.out)["seeds"]) == 2


def test_a_run_begins_with_what_another_has_done(forge, smoke, recipe, tmp_path):
    changed = ("--set", "rl.steps=1", "distill.steps=5")
    done = forge("run", recipe, "--from", smoke.root, "--out", tmp_path / "x", *changed, "--json")
    assert done.code == 0
    assert json.loads(done.out)["ran"] == ["rl", "distill", "eval", "export"]
