"""Laws of texts without turns: echoes and what they are worth, ids and texts, stop strings."""

import pytest
import torch
from serving import CHAT, HI, LETTERS, SPEC, TEXT, made, running


@pytest.fixture(scope="module")
def served():
    return made()


@pytest.fixture(scope="module")
def client(served):
    with running(served) as client:
        yield client


def test_an_echo_is_scored_as_the_model_reads_it(client, served):
    prompts = ["The lamp is on", "Die Lampe ist grün. 🙂"]
    fields = {"prompt": prompts, "echo": True, "logprobs": 2, "max_tokens": 1, "temperature": 0, "n": 1}
    _, said = client.post(TEXT, **fields)
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    for text, choice in zip(prompts, said["choices"]):
        ids = [served.tokenizer.layout.bos_id, *served.tokenizer.encode(text)]
        logp_TV = served.engine.model(torch.tensor([ids]))[0].float().log_softmax(-1)
        expected = [logp_TV[n, id].item() for n, id in enumerate(ids[1:])]
        listed = choice["logprobs"]
        assert {len(values) for values in listed.values()} == {len(ids) + 1}  # and the one that was generated
        assert listed["token_logprobs"][0] is None is listed["top_logprobs"][0]
        assert listed["token_logprobs"][1:-1] == pytest.approx(expected, abs=1e-4)
        best = logp_TV.amax(-1).tolist()
        assert [max(top.values()) for top in listed["top_logprobs"][1:]] == pytest.approx(best, abs=1e-4)
        greedy = [
            logp == max(top.values())
            for logp, top in zip(listed["token_logprobs"], listed["top_logprobs"])
            if top
        ]
        assert greedy[:-1] == [id == best for id, best in zip(ids[1:], logp_TV.argmax(-1).tolist())]
        assert greedy[-1]
        assert choice["text"].startswith(text)
        for token, place in zip(listed["tokens"], listed["text_offset"]):
            assert token.startswith(("bytes:", "<|")) or choice["text"][place:].startswith(token)


def test_ids_score_as_their_text_and_a_scored_prompt_needs_no_reply(client, served):
    text = "The lamp is on"
    letters = {"logit_bias": LETTERS}
    ids = [served.tokenizer.layout.bos_id, *served.tokenizer.encode(text)]
    fields = {"echo": True, "logprobs": 1, "temperature": 0}
    _, by_text = client.post(TEXT, prompt=text, max_tokens=1, **fields)
    _, by_ids = client.post(TEXT, prompt=[ids, ids], max_tokens=1, **fields)
    _, silent = client.post(TEXT, prompt=ids, max_tokens=0, **fields)
    whole = by_text["choices"][0]["logprobs"]["token_logprobs"]
    assert [choice["logprobs"]["token_logprobs"] for choice in by_ids["choices"]] == [whole, whole]
    assert silent["choices"][0]["logprobs"]["token_logprobs"] == whole[:-1]
    assert silent["choices"][0]["text"] == "<|bos|>" + text
    assert silent["usage"]["completion_tokens"] == 0
    events = client.events(TEXT, prompt=ids, max_tokens=3, n=2, **fields, **letters)
    _, both = client.post(TEXT, prompt=ids, max_tokens=3, n=2, **fields, **letters)
    for choice in both["choices"]:
        parts = [c for event in events for c in event["choices"] if c["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert sum((part["logprobs"][name] for part in parts if part["logprobs"]), []) == values
        assert len(choice["logprobs"]["tokens"]) == len(ids) + 3


def test_a_text_and_its_ids_are_the_same(client, served):
    _, said = client.post("/v1/tokenize", prompt="Die Lampe 🙂")
    assert said["tokens"] == [served.tokenizer.layout.bos_id, *served.tokenizer.encode("Die Lampe 🙂")]
    assert (said["count"], said["max_model_len"]) == (len(said["tokens"]), SPEC.context)
    _, plain = client.post("/v1/tokenize", content="Die Lampe 🙂", add_special_tokens=False)
    assert client.post("/v1/detokenize", tokens=plain["tokens"])[1]["content"] == "Die Lampe 🙂"
    _, chat = client.post("/v1/tokenize", messages=HI["messages"])
    assert chat["count"] == client.post(CHAT, **HI)[1]["usage"]["prompt_tokens"]


def test_a_stop_string_is_cut_wherever_it_falls(client):
    whole = client.post(CHAT, **HI | {"max_tokens": 24})[1]["choices"][0]["message"]["content"]
    assert len(whole) > 12
    for begin, end in ((0, 3), (5, 6), (4, 9), (len(whole) - 2, len(whole))):
        stop = whole[begin:end]
        fields = HI | {"max_tokens": 24, "stop": [stop, "never"]}
        choice = client.post(CHAT, **fields)[1]["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (whole[: whole.index(stop)], "stop")
        deltas = [c["delta"].get("content", "") for e in client.events(CHAT, **fields) for c in e["choices"]]
        assert "".join(deltas) == whole[: whole.index(stop)]
