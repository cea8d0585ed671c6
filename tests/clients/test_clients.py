"""Programs that people know ask a server as they ask others', and read what it says."""

import json
import re
import urllib.request

import pytest

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


def test_continue_asks_as_it_does_from_an_editor(installed, run, tmp_path, long):
    """The engine of Continue's extensions, with all that it tells a model of itself and its tools."""
    model = {"name": "lamp", "provider": "openai", "model": "lamp", "apiKey": "none"}
    models = [model | {"apiBase": f"{long.base}/v1"}]
    config = {"name": "lamp", "version": "0.0.1", "schema": "v1", "models": models}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    ask = [installed("cn"), "-p", "--config", tmp_path / "config.yaml", "What is it?"]
    assert run(ask, HOME=str(tmp_path), CONTINUE_TELEMETRY_ENABLED="0").strip()
    with urllib.request.urlopen(f"{long.base}/metrics") as answer:
        counted = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    assert float(counted['nomoat_requests_total{end="done",model="lamp"}']) >= 1
    assert float(counted['nomoat_prompt_tokens_total{model="lamp"}']) > 2000
    assert not [name for name in counted if name.startswith("nomoat_refused_total")]


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


N_REQUESTS = 10_000
N_ROUTES = 12  # at least so many take a body or a query, and get as many requests each
KNOWN = '[parameters]\n"path.name" = "lamp"\n"body.model" = "lamp"\n'


def test_schemathesis_finds_no_fault_of_the_server(installed, run, short, tmp_path):
    """Requests made from our OpenAPI document: no answer of 500 or more, none that takes a minute."""
    (tmp_path / "schemathesis.toml").write_text(KNOWN)
    ask = [installed("schemathesis"), "--config-file", tmp_path / "schemathesis.toml", "run"]
    ask += [f"{short.base}/openapi.json", "--phases", "fuzzing", "--checks", "not_a_server_error"]
    ask += ["--request-timeout", "60", "--generation-database", "none", "--seed", "1", "--warnings", "off"]
    said = run([*ask, "--max-examples", str(N_REQUESTS // N_ROUTES)], seconds=7200)
    [n_made] = re.findall(r"(\d[\d,]*) generated", said)
    assert int(n_made.replace(",", "")) >= N_REQUESTS, said[-2000:]
