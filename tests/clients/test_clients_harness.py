"""lm-evaluation-harness asks a server, and scores what `nomoat eval` scores."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nomoat.evals.bits import held_out
from nomoat.rl.rollout import exercises
from nomoat.serve.loading import Loaded, load
from nomoat.stats import grouped, mean

pytestmark = pytest.mark.check
SHELF = Path(__file__).parents[2] / "nomoat" / "shelf" / "evening" / "distill"
CHAT, TEMPLATE = ("local-chat-completions", "said"), ("--apply_chat_template",)
FAMILIES, N_PROBLEMS = ("addition", "sorting", "weekday", "modchain"), 40
MEASURED = ("--problems", N_PROBLEMS, "--samples", 1)

ITEMS = (
    {"question": "The lamp", "choices": [" is on.", " is off.", " was on"], "answer": 0},
    {"question": "Die Lampe", "choices": [" ist an.", " is on.", " grün 🙂"], "answer": 0},
    {"question": "What is it?", "choices": [" user", " system", " it"], "answer": 2},
)
TASK = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
target_delimiter: ""
"""
CHOICE = (
    TASK
    + """
task: choice
output_type: multiple_choice
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
)
SAID = (
    TASK
    + """
task: said
output_type: generate_until
doc_to_target: "{{{{right}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 96, do_sample: false}}
metric_list: [{{metric: exact_match, regexes_to_ignore: ['^\\s+']}}]
"""
)
BITS = (
    TASK.replace('doc_to_text: "{{{{question}}}}"', 'doc_to_text: ""')
    + """
task: bits
output_type: loglikelihood_rolling
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""
)


@pytest.fixture
def harness(installed, run, tmp_path):
    """Runs a task of lm-evaluation-harness; its results and samples."""
    program = installed("lm_eval")

    def evaluated(
        kind: str, task: str, asked: Sequence[dict], *more: str, **arguments: object
    ) -> tuple[dict, list[dict]]:
        where = Path(tempfile.mkdtemp(dir=tmp_path))
        items, out = where / "items.jsonl", where / "out"
        items.write_text("".join(json.dumps(item) + "\n" for item in asked))
        text = {"choice": CHOICE, "said": SAID, "bits": BITS}[task]
        (where / f"{task}.yaml").write_text(text.format(items=items))
        told = ",".join(f"{name}={value}" for name, value in {**arguments, "max_retries": 1}.items())
        command = [program, "run", "--model", kind, "--tasks", task, "--model_args", told, *more]
        files = ["--include_path", where, "--output_path", out, "--log_samples"]
        run([*command, *files], HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
        [results], [samples] = out.rglob("results_*.json"), out.rglob("samples_*.jsonl")
        lines = samples.read_text("utf-8").splitlines()
        return json.loads(results.read_text())["results"][task], [json.loads(line) for line in lines]

    return evaluated


def test_lm_evaluation_harness_scores_as_the_model_does(harness, served):
    """local-completions: each choice's log-probability is that of a forward pass, the scores follow."""
    loaded = load(served.directory)
    address = f"{served.base}/v1/completions"
    how = {"model": "lamp", "base_url": address, "tokenizer": served.directory}
    results, samples = harness("local-completions", "choice", ITEMS, **how)
    rights = {"acc": 0, "acc_norm": 0}
    for item, sample in zip(ITEMS, sorted(samples, key=lambda sample: sample["doc_id"])):
        expected = [scored(loaded, item["question"], choice) for choice in item["choices"]]
        assert [float(resp[0][0]) for resp in sample["resps"]] == pytest.approx(expected, abs=1e-3)
        long = [logp / len(choice) for logp, choice in zip(expected, item["choices"])]
        rights["acc"] += expected.index(max(expected)) == item["answer"]
        rights["acc_norm"] += long.index(max(long)) == item["answer"]
    assert {name: results[f"{name},none"] * len(ITEMS) for name in rights} == pytest.approx(rights)


def scored(loaded: Loaded, context: str, choice: str) -> float:
    """log p(choice | context), as ids."""
    ids = loaded.tokenizer.encode(context + choice)
    n = len(loaded.tokenizer.encode(context))
    with torch.no_grad():
        logp_TV = loaded.model(torch.tensor([ids]))[0].log_softmax(-1)
    return sum(logp_TV[place - 1, ids[place]].item() for place in range(n, len(ids)))


def test_lm_evaluation_harness_chats(harness, served):
    asked = [item | {"right": "The lamp is on."} for item in ITEMS]
    results, samples = harness(*CHAT, asked, *TEMPLATE, **chat_of(served.base))
    assert results["exact_match,none"] == 1
    assert [sample["resps"][0][0] for sample in samples] == ["The lamp is on."] * len(ITEMS)


def chat_of(base: str, model: str = "lamp") -> dict[str, str]:
    return {"model": model, "base_url": f"{base}/v1/chat/completions"}


def test_answers_score_as_nomoat_eval_says(harness, serve, forge):
    """An export's greedy answers to the same problems: as many right by exact match as by our verifiers."""
    ours, rows = {}, []
    for family in FAMILIES:
        [score, *_] = json.loads(forge("eval", SHELF, "--task", family, *MEASURED, "--json").out)["scores"]
        assert (score["name"], score["n"]) == ("accuracy/greedy", N_PROBLEMS)
        ours[family] = score["value"]
        for exercise in exercises({family: [score["level"]]}, N_PROBLEMS, 0, "eval"):
            problem = exercise.problem
            rows.append({"family": family, "question": problem.prompt, "right": problem.witness.strip()})
    with serve(SHELF) as served:
        _, samples = harness(*CHAT, rows, *TEMPLATE, **chat_of(served.base, SHELF.name))
    scores = grouped((sample["doc"]["family"], sample["exact_match"]) for sample in samples)
    assert {family: mean(rights) for family, rights in scores.items()} == pytest.approx(ours)
    assert 0 < ours["addition"] < 1


RUN = """
name = "bits"
device = "cpu"
[models.main]
n_layers = 2
d_model = 32
context = 2048
[models.main.attention]
kind = "latent"
n_heads = 2
d_nope = 16
d_rope = 8
d_value = 16
d_kv_latent = 16
[models.main.ffn]
kind = "dense"
d_hidden = 64

[[stages]]
kind = "tokenizer"
vocab_size = 384
text_bytes = 40_000
tasks = { lamp = [4] }
task_documents = 50

[[stages]]
kind = "pretrain"
steps = 20
rows = 2
context = 2048
precision = "fp32"
text_bytes = 40_000
shares = { prose = 1.0 }

[[stages]]
kind = "eval"
tasks = { lamp = [4] }
problems = 1
samples = 1
max_new_tokens = 24
ngram_orders = [3]
heldout_bytes = 1000

[[stages]]
kind = "export"
models = ["pretrain"]
"""


def test_bits_per_byte_are_those_of_nomoat_eval(harness, serve, forge, tmp_path):
    """Held-out texts, each shorter than the context, so that both cut them alike: not at all."""
    (tmp_path / "recipe.toml").write_text(RUN)
    root = tmp_path / "run"
    assert forge("run", tmp_path / "recipe.toml", "--out", root).code == 0
    scores = json.loads(forge("eval", root, "--json").out)["scores"]
    ours = [(s["n"], s["value"]) for s in scores if (s["model"], s["name"][:4]) == ("pretrain", "bpb/")]
    export = root / "export" / "pretrain"
    rows = [{"text": text} for texts in held_out(1000).values() for text in texts]
    with serve(export) as served:
        how = {"model": "pretrain", "base_url": f"{served.base}/v1/completions", "tokenizer": export}
        results, _ = harness("local-completions", "bits", rows, max_length=2048, **how)
    n_bytes = sum(n for n, _ in ours)
    expected = sum(n * bits for n, bits in ours) / n_bytes
    assert n_bytes == sum(len(row["text"].encode()) for row in rows)
    assert results["bits_per_byte,none"] == pytest.approx(expected, abs=1e-5)
