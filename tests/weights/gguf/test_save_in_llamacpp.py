"""What leaves us runs in llama.cpp: the same numbers, the same text, the same ids, thinking apart."""

import pytest
import torch
from ggufs import GROUPED, LATENT, SPECS, filled
from shapes import shape, varied

from nomoat.model.transformer import Transformer
from nomoat.tokenizer.bpe import train
from nomoat.tokenizer.layout import Message, render
from nomoat.weights.gguf.save import save

pytest.importorskip("xllamacpp")
llamacpp = pytest.importorskip("llamacpp")
IDS = [1, 40, 41, 60, 70, 80, 33, 22, 100, 200, 150, 160, 170, 20, 30]
FAST = (
    "deepseek2", "deepseek2, no query latent", "deepseek2, YaRN's scales", "deepseek2, dense, depth", "llama",
    "llama, stretched", "qwen2", "qwen3", "qwen3moe",
)  # fmt: skip
WORDS = "a small text about numbers, 1 2 3, and letters: abcdefghijklmnopqrstuvwxyz 0123456789"


@pytest.fixture(scope="module")
def tokenizer():
    return train([WORDS] * 4, vocab_size=300)


def others(names):
    return [pytest.param(name, marks=() if name in FAST else pytest.mark.check) for name in names]


@pytest.mark.parametrize("name", others(SPECS))
@torch.no_grad()
def test_log_probabilities_and_greedy_text_are_ours(tmp_path, tokenizer, name):
    model = filled(SPECS[name])
    server = llamacpp.Server(save(model, tmp_path / "x.gguf", tokenizer=tokenizer).path)
    theirs = server.logprobs(IDS, model.spec.vocab_size)
    ours_V = model(torch.tensor([IDS]))[0, -1].log_softmax(-1)
    assert len(theirs) == model.spec.vocab_size
    assert max(abs(float(ours_V[id]) - logp) for id, logp in theirs.items()) < 1e-4
    written = server.greedy(IDS, 16)
    logits_TV = model(torch.tensor([IDS + written]))[0, len(IDS) - 1 : -1]
    logits_TV[:, tokenizer.layout.eos_id] = float("-inf")  # as `ignore_eos`
    assert logits_TV.argmax(-1).tolist() == written


@pytest.mark.parametrize("type", ["f16", "q8_0", "q4_0"])
@torch.no_grad()
def test_narrow_types_open(tmp_path, tokenizer, type):
    """With widths that a type can't take beside those that it can."""
    model = filled(LATENT)
    server = llamacpp.Server(save(model, tmp_path / "x.gguf", tokenizer=tokenizer, type=type).path)
    theirs = server.logprobs(IDS, model.spec.vocab_size)
    ours_V = model(torch.tensor([IDS]))[0, -1].log_softmax(-1)
    off = sum(abs(float(ours_V[id]) - logp) for id, logp in theirs.items()) / len(theirs)
    assert off < {"f16": 0.02, "q8_0": 0.2, "q4_0": 2.0}[type]


@torch.no_grad()
def test_the_extra_depth_drafts_and_changes_nothing(tmp_path, tokenizer):
    import xllamacpp

    model = filled(SPECS["deepseek2, depth"])
    path = save(model, tmp_path / "x.gguf", tokenizer=tokenizer).path
    plain = llamacpp.Server(path).greedy(IDS, 24)
    drafting = xllamacpp.CommonParams().speculative
    drafting.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_MTP]
    server = llamacpp.Server(path, speculative=drafting)
    answer = server.post(
        "/completion", prompt=IDS, n_predict=24, temperature=0.0, ignore_eos=True, return_tokens=True
    )
    assert answer["timings"]["draft_n"] > 0
    assert answer["tokens"] == plain


def chain(ids):
    """A model that follows each id by the next, whatever stood before."""
    spec = shape(
        vocab_size=320, n_layers=1, d_model=320, n_heads=1, d_nope=4, d_rope=4, d_value=4, d_kv_latent=4,
        d_q_latent=None, d_ffn=32, n_routed=0,
    )  # fmt: skip
    model = Transformer(spec).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(float(tensor.ndim < 2))
        model.embed.weight.copy_(torch.eye(320))
        for one, other in zip(ids, ids[1:]):
            model.head.weight[other, one] = 1.0
    return model


@pytest.fixture(scope="module")
def thinker(tmp_path_factory, tokenizer):
    layout = tokenizer.layout
    thought = [layout.think_id, *tokenizer.encode("ab"), layout.end_think_id]
    ids = [layout.role_ids["assistant"], *thought, *tokenizer.encode("42"), layout.eos_id]
    place = tmp_path_factory.mktemp("thinker") / "x.gguf"
    taught = {"nomoat.kinds": ["addition"], "nomoat.examples": ["6*7?"]}  # which it has no use for
    path = save(chain(ids), place, tokenizer=tokenizer, meta=taught).path
    return llamacpp.Server(path)


@pytest.mark.parametrize(("think", "reasoning"), [(None, "ab"), (True, "ab"), (False, None)])
def test_thinking_comes_back_apart_and_the_prompt_is_ours(thinker, tokenizer, think, reasoning):
    """Where nobody said whether to think, and where it is asked for, the model opens the block or doesn't."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "<|eos|> 6*7?"}]
    asked = {} if think is None else {"chat_template_kwargs": {"enable_thinking": think}}
    answer = thinker.post("/v1/chat/completions", messages=messages, temperature=0.0, max_tokens=20, **asked)
    message = answer["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content")) == ("42", reasoning)
    messages[1]["content"] = "6*7?"
    prompt = thinker.post("/apply-template", messages=messages, **asked)["prompt"]
    ours = render(tokenizer, [Message(**m) for m in messages], generate=True, think=think and None)
    bos = [tokenizer.layout.bos_id]  # which it takes from the template and puts there itself
    assert bos + thinker.tokenize(prompt, specials=True) == ours.ids


def test_an_answer_without_thinking_is_no_thinking(tmp_path, tokenizer):
    """Greetings are answered so; llama.cpp itself sets `enable_thinking` to true."""
    ids = [tokenizer.layout.role_ids["assistant"], *tokenizer.encode("ok"), tokenizer.layout.eos_id]
    server = llamacpp.Server(save(chain(ids), tmp_path / "x.gguf", tokenizer=tokenizer).path)
    messages = [{"role": "user", "content": "6*7?"}]
    for asked in ({}, {"chat_template_kwargs": {"enable_thinking": True}}):
        asked |= {"messages": messages, "temperature": 0.0, "max_tokens": 9}
        message = server.post("/v1/chat/completions", **asked)["choices"][0]["message"]
        assert (message["content"], message.get("reasoning_content")) == ("ok", None)


def test_earlier_turns_are_written_as_ours(thinker, tokenizer):
    turns = [
        ("user", "2*3?", None),
        ("assistant", "6", "well"),
        ("user", "so?", None),
        ("assistant", "yes", "hm"),
    ]
    messages = [{"role": r, "content": c} | ({"reasoning_content": t} if t else {}) for r, c, t in turns]
    for n in (3, 4):
        asked = {"messages": messages[:n], "add_generation_prompt": n == 3}
        prompt = thinker.post("/apply-template", **asked, chat_template_kwargs={"enable_thinking": True})[
            "prompt"
        ]
        ours = render(tokenizer, [Message(*turn) for turn in turns[:n]], generate=n == 3).ids
        theirs = thinker.tokenize(prompt, specials=True)
        assert theirs in (ours[1:], ours[1:-1])  # the end of the last turn is left to be written


def test_parts_developers_and_tools_are_written(thinker):
    """Parts are joined by a line end before a template sees them, so ours joins them so everywhere."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    called = {"name": "f", "arguments": '{"x": 1}'}
    calls = [{"type": "function", "id": "1", "function": called}]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "7"},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    for more in ({}, {"tools": [tool]}):
        prompt = thinker.post("/apply-template", messages=messages, **more)["prompt"]
        assert prompt == (
            '<|system|>be brief<|user|>a\nb<|assistant|><tool_call>{"name": "f", "arguments": {"x": 1}}'
            "</tool_call><|eos|><|user|><tool_response>7</tool_response><|assistant|>"
        )
    answer = thinker.post("/v1/chat/completions", messages=messages, temperature=0.0, max_tokens=20)
    assert answer["choices"][0]["message"]["content"] == "42"


def test_ids_of_content_are_ours(thinker, tokenizer):
    for text in llamacpp.texts(300, 3):
        assert thinker.tokenize(text) == tokenizer.encode(text)


@pytest.mark.check
def test_ids_of_ten_thousand_texts_are_ours(thinker, tokenizer):
    texts = llamacpp.texts(10_000, 4)
    assert [text for text in texts if thinker.tokenize(text) != tokenizer.encode(text)] == []


@pytest.mark.check
@pytest.mark.parametrize("count", [26, 27])
@torch.no_grad()
def test_the_two_misread_counts_run_without_a_query_latent(tmp_path, tokenizer, count):
    model = filled(varied(LATENT, n_layers=count, d_q_latent=None, n_routed=0))
    server = llamacpp.Server(save(model, tmp_path / "x.gguf", tokenizer=tokenizer).path)
    theirs = server.logprobs(IDS, model.spec.vocab_size)
    ours_V = model(torch.tensor([IDS]))[0, -1].log_softmax(-1)
    assert max(abs(float(ours_V[id]) - logp) for id, logp in theirs.items()) < 1e-3


@pytest.mark.check
def test_no_width_but_the_models_opens_in_qwen2(tmp_path, tokenizer, monkeypatch):
    """Why such a model is refused."""
    from nomoat.weights.gguf import limits

    monkeypatch.setattr(limits, "AS_WIDE_AS_MODEL", ())
    spec = varied(GROUPED, d_head=32, d_value=32, qkv_bias=True)
    path = save(filled(spec), tmp_path / "x.gguf", tokenizer=tokenizer).path
    with pytest.raises(RuntimeError, match="Failed to init server"):
        llamacpp.Server(path)


@pytest.mark.check
@torch.no_grad()
def test_the_betas_of_yarn_are_not_read(tmp_path, tokenizer, monkeypatch):
    """Why others than 32 and 1 are refused."""
    from nomoat.weights.gguf import limits

    monkeypatch.setattr(limits, "BETAS", (32.0, 2.0))
    stretch = SPECS["llama, YaRN"].stretch
    wide = varied(SPECS["llama, YaRN"], stretch=stretch.model_copy(update={"beta_slow": 2.0}))
    model, usual = filled(wide), filled(SPECS["llama, YaRN"])
    server = llamacpp.Server(save(model, tmp_path / "x.gguf", tokenizer=tokenizer).path)
    theirs = server.logprobs(IDS, model.spec.vocab_size)
    off = []
    for one in (usual, model):
        ours_V = one(torch.tensor([IDS]))[0, -1].log_softmax(-1)
        off.append(max(abs(float(ours_V[id]) - logp) for id, logp in theirs.items()))
    assert off[0] < 1e-4 < 0.1 < off[1]
