"""Programs that people know ask a server as they ask others', and read what it says."""

import json
import re

import pytest
import torch

from nomoat.serve.loading import Loaded, load

pytestmark = pytest.mark.check


@pytest.mark.parametrize(
    ("package", "script", "arguments"),
    [
        ("openai", "ask_openai.py", ()),
        ("anthropic", "ask_anthropic.py", ()),
        ("litellm", "ask_others.py", ("litellm",)),
        ("langchain_openai", "ask_others.py", ("langchain_openai",)),
    ],
    ids=["openai", "anthropic", "litellm", "langchain-openai"],
)
def test_python_clients_are_answered(python, package, script, arguments):
    python(package, script, *arguments)


@pytest.mark.parametrize(
    ("package", "script"), [("openai", "ask_openai.mjs"), ("@ai-sdk/openai-compatible", "ask_ai_sdk.mjs")]
)
def test_node_clients_are_answered(node, package, script):
    node(package, script)


def test_llm_prompts_streams_and_holds_a_schema(installed, run, tmp_path, served):
    """Willison's `llm`, with a file of extra models."""
    program = installed("llm")
    model = {
        "model_id": "lamp",
        "model_name": "lamp",
        "api_base": f"{served.base}/v1",
        "supports_schema": True,
    }
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([model]))
    ask = [program, "-m", "lamp", "-o", "temperature", "0", "What is it?"]
    where = {"LLM_USER_PATH": str(tmp_path)}
    assert run(ask, **where).strip() == "The lamp is on."
    assert run([*ask, "--no-stream"], **where).strip() == "The lamp is on."
    assert run([*ask, "--schema", "on bool"], **where).strip() in ('{"on": true}', '{"on": false}')


UNMET = {  # what llm-comply wants of a model with eyes, and of a server with no first model to be meant
    "openai-chat": {"chat-image-input", "chat-error-handling"},
    "open-responses": {"image-input"},
    "anthropic": {"anth-image-input"},
}


@pytest.mark.parametrize("form", UNMET)
def test_llm_comply_finds_the_forms_of_the_published_interfaces(installed, run, served, form):
    ask = [installed("llm-comply"), "run", "--base-url", f"{served.base}/v1", "--api-key", "none"]
    told = json.loads(run([*ask, "--model", "lamp", "--format", form, "--json"], codes=(0, 1)))
    results = {test["id"]: test["status"] for test in told["results"]}
    assert {id for id, status in results.items() if status == "failed"} == UNMET[form]
    assert sum(status == "passed" for status in results.values()) >= 6


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
doc_to_target: "The lamp is on."
generation_kwargs: {{until: ["\\n"], max_gen_toks: 20, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
)


@pytest.fixture
def harness(installed, run, tmp_path):
    """Runs a task of lm-evaluation-harness; its results and samples."""
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    for name, text in {"choice": CHOICE, "said": SAID}.items():
        (tmp_path / f"{name}.yaml").write_text(text.format(items=items))
    program = installed("lm_eval")

    def evaluated(kind: str, task: str, *more: str, **arguments: object) -> tuple[dict, list[dict]]:
        told = ",".join(f"{name}={value}" for name, value in arguments.items())
        out = tmp_path / "out"
        command = [program, "run", "--model", kind, "--tasks", task, "--model_args", told, *more]
        files = ["--include_path", tmp_path, "--output_path", out, "--log_samples"]
        run([*command, *files], HF_HOME=str(tmp_path), HF_DATASETS_OFFLINE="1")
        [results], [samples] = out.rglob("results_*.json"), out.rglob("samples_*.jsonl")
        lines = samples.read_text("utf-8").splitlines()
        return json.loads(results.read_text())["results"][task], [json.loads(line) for line in lines]

    return evaluated


def test_lm_evaluation_harness_scores_as_the_model_does(harness, served):
    """local-completions: each choice's log-probability is that of a forward pass, the scores follow."""
    loaded = load(served.directory)
    address = f"{served.base}/v1/completions"
    how = {"model": "lamp", "base_url": address, "tokenizer": served.directory, "max_retries": 1}
    results, samples = harness("local-completions", "choice", **how)
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
    address = f"{served.base}/v1/chat/completions"
    how = {"model": "lamp", "base_url": address, "max_retries": 1}
    results, samples = harness("local-chat-completions", "said", "--apply_chat_template", **how)
    assert results["exact_match,none"] == 1
    assert [sample["resps"][0][0] for sample in samples] == ["The lamp is on."] * len(ITEMS)


N_REQUESTS = 10_000
KNOWN = '[parameters]\n"path.name" = "lamp"\n"body.model" = "lamp"\n'


def test_schemathesis_finds_no_fault_of_the_server(installed, run, short, tmp_path):
    """Requests made from our OpenAPI document: no answer of 500 or more, none that takes a minute."""
    (tmp_path / "schemathesis.toml").write_text(KNOWN)
    ask = [installed("schemathesis"), "--config-file", tmp_path / "schemathesis.toml", "run"]
    ask += [f"{short.base}/openapi.json", "--phases", "fuzzing", "--checks", "not_a_server_error"]
    ask += ["--request-timeout", "60", "--generation-database", "none", "--seed", "1", "--warnings", "off"]
    said = run([*ask, "--max-examples", str(N_REQUESTS // 6)], seconds=7200)
    [n_made] = re.findall(r"(\d[\d,]*) generated", said)
    assert int(n_made.replace(",", "")) >= N_REQUESTS, said[-2000:]
