"""lm-evaluation-harness, with transformers and an export, scores what `nomoat eval --suite` scores."""

import json
import sys

import pytest

from nomoat.evals import benchmarks, suites
from nomoat.serve import exporting
from nomoat.serve.loading import load
from nomoat.weights import known

pytestmark = pytest.mark.check
N_ITEMS = 200
TASKS = ("arc_easy", "hellaswag", "piqa")
TASK = """
task: {name}_ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
target_delimiter: " "
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    if not known.at_hand("smollm2"):
        pytest.skip("smollm2 is not in the cache: `nomoat chat smollm2` fetches it")
    loaded = load("smollm2")
    [directory] = exporting.directory(loaded, tmp_path_factory.mktemp("export") / "smollm2", "f32")
    return directory, loaded


def test_lm_evaluation_harness_gives_the_same_scores(installed, run, tmp_path, exported):
    """Zero-shot: every choice's log-likelihood within 1e-2 nats, each score within one item."""
    directory, loaded = exported
    site = next(installed("lm_eval").parents[1].glob("lib/*/site-packages"))
    if not (site / "accelerate").is_dir():
        pytest.skip("lm_eval's own models need accelerate beside it: pip install --no-deps accelerate")
    items = {name: benchmarks.STANDARD[name].items(benchmarks.located())[0][:N_ITEMS] for name in TASKS}
    for name, some in items.items():
        rows = []
        for item in some:
            choices = [choice[1:] for choice in item.choices]
            rows.append({"query": item.query, "choices": choices, "gold": item.gold})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, items=tmp_path / f"{name}.jsonl"))
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--batch_size", "8"]
    tasks = ",".join(f"{name}_ours" for name in TASKS)
    command += ["--device", "cpu", "--tasks", tasks, "--include_path", tmp_path]
    command += ["--model_args", f"pretrained={directory},dtype=float32"]
    command += ["--output_path", tmp_path / "out", "--log_samples"]
    run(command, PYTHONPATH=str(site), HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
    [results] = (tmp_path / "out").rglob("results_*.json")
    theirs = json.loads(results.read_text())["results"]
    examinee = suites.Examinee(loaded.model, loaded.tokenizer, few_shot=False)
    for name, some in items.items():
        answers = list(examinee.answers(benchmarks.STANDARD[name], some))
        [samples] = (tmp_path / "out").rglob(f"samples_{name}_ours_*.jsonl")
        lines = sorted(map(json.loads, samples.read_text("utf-8").splitlines()), key=lambda s: s["doc_id"])
        for answer, line in zip(answers, lines, strict=True):
            assert [float(r[0][0]) for r in line["resps"]] == pytest.approx(answer.said, abs=1e-2)
        ours = suites.score(name, 0, answers)
        of = theirs[f"{name}_ours"]
        print(name, ours.strict, ours.lenient, of["acc,none"], of["acc_norm,none"])
        assert of["acc,none"] == pytest.approx(ours.strict.value, abs=1.01 / N_ITEMS)
        assert of["acc_norm,none"] == pytest.approx(ours.lenient.value, abs=1.01 / N_ITEMS)
