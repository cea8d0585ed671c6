"""Laws of weights that are taken over while a server runs, and of ids in and out."""

import hashlib

import pytest
import torch
from serving import DOORS, SPEC, TEXT, endless, made, running
from shapes import varied

from nomoat.config import ConfigError
from nomoat.model.transformer import Transformer
from nomoat.serve import updating
from nomoat.serve.limits import Doors
from nomoat.tokenizer import bpe
from nomoat.weights import directory

IDS = {"prompt": [1, 40, 50], "max_tokens": 9, "ignore_eos": True, "return_token_ids": True, "logprobs": 0}


@pytest.fixture(scope="module")
def served():
    return made()


def other(spec=SPEC):
    return Transformer(spec).initialise(7).eval()


@pytest.fixture
def client(served, tmp_path):
    """A server whose weights may come from tmp_path/in."""
    (tmp_path / "in").mkdir()
    with running(served, more=updating.routes(tmp_path / "in")) as client:
        yield client


def test_ids_go_in_and_come_out_with_what_each_was_worth(client, served):
    fields = {**IDS, "seed": 4, "n": 3}
    status, said = client.post(TEXT, **fields)
    assert status == 200
    model = served.engine.model
    for choice in said["choices"]:
        ids = choice["token_ids"]
        assert choice["prompt_token_ids"] == IDS["prompt"]
        logp_TV = model(torch.tensor([[*IDS["prompt"], *ids]]))[0].log_softmax(-1)
        expected = [logp_TV[n, id].item() for n, id in enumerate(ids, len(IDS["prompt"]) - 1)]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-5)
    _, beside = client.post(TEXT, **{**fields, "logprobs": 1})  # the same tokens, by the longer way
    for choice, other in zip(said["choices"], beside["choices"]):
        assert other["token_ids"] == choice["token_ids"]
        logps = other["logprobs"]["token_logprobs"]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(logps, abs=1e-5)
        assert choice["logprobs"]["tokens"] == other["logprobs"]["tokens"]
        assert [len(top) for top in choice["logprobs"]["top_logprobs"]] == [1] * len(logps)
    cold = {**fields, "temperature": 0.5}  # where what is told is not what it was drawn with
    _, one = client.post(TEXT, **cold)
    _, other = client.post(TEXT, **{**cold, "logprobs": 1})
    logps = other["choices"][0]["logprobs"]["token_logprobs"]
    assert one["choices"][0]["logprobs"]["token_logprobs"] == pytest.approx(logps, abs=1e-5)
    events = client.events(TEXT, **fields)
    choices = [event["choices"][0] for event in events]
    for n, choice in enumerate(said["choices"]):
        own = [part for part in choices if part["index"] == n]
        assert sum((part["token_ids"] for part in own), []) == choice["token_ids"]
        assert ["prompt_token_ids" in part for part in own] == [True] + [False] * (len(own) - 1)
    cut = said["choices"][0]["token_ids"][:4]
    _, stopped = client.post(TEXT, **fields, stop_token_ids=[cut[-1]])
    first = cut[: cut.index(cut[-1]) + 1]
    assert (stopped["choices"][0]["token_ids"], stopped["choices"][0]["finish_reason"]) == (first, "stop")
    _, plain = client.post(TEXT, **{**fields, "return_token_ids": False})
    assert not {"token_ids", "prompt_token_ids"} & plain["choices"][0].keys()


def test_new_weights_answer_and_what_runs_goes_on_with_the_old(client, served, tmp_path):
    model, place = other(), tmp_path / "in" / "one"
    directory.save(model, place, tokenizer=served.tokenizer)
    before = client.post(TEXT, **IDS, seed=1)[1]
    with endless(client):
        status, said = client.post(updating.PATH, model_path=str(place), model="lamp")
        assert (status, said["success"]) == (200, True)
        assert client.app.worker.n_rows == 1  # it has not been cut off
        after = client.post(TEXT, **IDS, seed=1)[1]
    assert after["system_fingerprint"] != before["system_fingerprint"]
    assert after["system_fingerprint"] in said["message"]
    ids = after["choices"][0]["token_ids"]
    logp_TV = model(torch.tensor([[*IDS["prompt"], *ids]]))[0].log_softmax(-1)
    expected = [logp_TV[n, id].item() for n, id in enumerate(ids, len(IDS["prompt"]) - 1)]
    assert after["choices"][0]["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-5)


def test_other_models_are_refused_and_change_nothing(client, served, tmp_path):
    inside = tmp_path / "in"
    wide = varied(SPEC, d_ffn=32)
    directory.save(other(wide), inside / "wide", tokenizer=served.tokenizer)
    tokenizer = bpe.train(["Another text about other things. " * 9], 280)
    directory.save(other(), inside / "foreign", tokenizer=tokenizer)
    directory.save(other(), tmp_path / "outside", tokenizer=served.tokenizer)
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "empty").mkdir()
    before = client.post(TEXT, **IDS)[1]["system_fingerprint"]
    for place, said in (
        ("wide", "another shape"),
        ("foreign", "another tokenizer"),
        ("link", "not below the --updates directory"),
        ("../outside", "not below the --updates directory"),
        ("empty", "no config.json"),
        ("none", "expected"),
    ):
        status, answer = client.post(updating.PATH, model_path=str(inside / place))
        assert (status, said in answer["error"]["message"]) == (400, True), answer
    assert client.post(updating.PATH, model_path=str(inside), model="lamb")[0] == 404
    assert client.post(TEXT, **IDS)[1]["system_fingerprint"] == before


def test_the_route_is_there_where_it_was_asked_for_and_behind_the_keys(served, tmp_path):
    assert updating.routes(None) == []
    with pytest.raises(ConfigError, match="none; expected a directory"):
        updating.routes(tmp_path / "none")
    digest = hashlib.sha256(b"sixteen characters and more").digest()
    doors = Doors(keys=frozenset({digest}))
    with running(served, doors, more=updating.routes(tmp_path)) as client:
        assert client.post(updating.PATH, model_path=str(tmp_path))[0] == 401
    with running(served, DOORS) as client:
        assert client.post(updating.PATH, model_path=str(tmp_path))[0] == 404
