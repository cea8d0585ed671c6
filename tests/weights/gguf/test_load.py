"""A file that isn't what it says: one clear error, no crash, no memory that the file doesn't hold."""

import dataclasses
import resource
import shutil
from random import Random

import ggufs
import numpy
import pytest
import torch
from ggufs import GROUPED, LATENT, filled

from nomoat.config import DataError, WeightsError
from nomoat.tokenizer.bpe import train
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.kinds import KINDS, NUMBERS
from nomoat.weights.gguf.load import expected, load
from nomoat.weights.gguf.save import save
from nomoat.weights.gguf.vocabulary import tokenizer_of
from nomoat.weights.gguf.writer import Entry, chunks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    tokenizer = train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)
    return save(filled(GROUPED), tmp_path_factory.mktemp("gguf") / "x.gguf", tokenizer=tokenizer).path


def rewritten(whole, path, meta=None, tensors=lambda entries: entries):
    """The file with other metadata and tensors; a key that becomes None is left out."""
    header, data = Header.of(whole), whole.read_bytes()
    table = {key: value for key, value in {**header.meta, **(meta or {})}.items() if value is not None}
    entries = {}
    for name, place in header.tensors.items():
        raw = data[place.offset : place.offset + place.n_bytes]
        entries[name] = Entry(name, place.shape, place.kind, lambda raw=raw: raw)
    path.write_bytes(b"".join(chunks(table, tensors(entries).values())))
    return path


def without(name):
    return lambda entries: {key: entry for key, entry in entries.items() if key != name}


def more(name, shape=(4,)):
    zeros = Entry(name, shape, KINDS[NUMBERS["F32"]], lambda: bytes(4 * shape[0]))
    return lambda entries: {**entries, name: zeros}


DAMAGE = {
    "another architecture": ({"general.architecture": "mamba"}, None, "'mamba'; expected one of llama"),
    "no architecture": ({"general.architecture": None}, None, "no general.architecture"),
    "no width": ({"llama.embedding_length": None}, None, "no llama.embedding_length"),
    "a width of text": ({"llama.embedding_length": "64"}, None, "embedding_length = '64'"),
    "another width": ({"llama.embedding_length": 32}, None, r"is \[320, 64\]; .*ask for \[320, 32\]"),
    "a width beyond memory": ({"llama.embedding_length": 1 << 20}, None, "describes a model of"),
    "layers beyond memory": ({"llama.block_count": 1 << 31}, None, "announces 2147483648 layers"),
    "no heads": ({"llama.attention.head_count": 0}, None, "n_heads"),
    "a window": ({"llama.attention.sliding_window": 128}, None, "sliding_window = 128; expected none"),
    "another stretch": ({"llama.rope.scaling.type": "longrope"}, None, "'longrope'; expected linear or yarn"),
    "a part rotated": ({"llama.rope.dimension_count": 8}, None, "rotates a part"),
    "experts": ({"llama.expert_count": 8}, None, "8 experts in architecture 'llama'"),
    "a tensor less": ({}, without("blk.1.ffn_up.weight"), "no tensor blk.1.ffn_up.weight"),
    "a tensor more": ({}, more("blk.9.x.weight"), "an unknown tensor blk.9.x.weight"),
    "no embedding": ({}, without("token_embd.weight"), "no matrix token_embd.weight"),
    "other divisors": ({}, more("rope_freqs.weight", (8,)), "divides its angles"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(whole, tmp_path, name):
    meta, tensors, message = DAMAGE[name]
    path = rewritten(whole, tmp_path / "x.gguf", meta, tensors or (lambda entries: entries))
    with pytest.raises(WeightsError, match=message):
        load(path)


def test_copies_must_be_copies(tmp_path):
    whole = save(filled(ggufs.SPECS["deepseek2, dense, depth"]), tmp_path / "x.gguf").path
    head = filled(ggufs.SPECS["deepseek2, dense, depth"]).head.weight.detach()
    for values, fine in ((head, True), (head + 1, False)):
        raw = values.numpy().tobytes()
        entry = Entry(
            "blk.3.nextn.shared_head_head.weight", tuple(values.shape), KINDS[0], lambda raw=raw: raw
        )
        path = rewritten(whole, tmp_path / "y.gguf", tensors=lambda e, entry=entry: {**e, entry.name: entry})
        if fine:
            assert load(path).spec.n_mtp == 1
        else:
            with pytest.raises(WeightsError, match="is no copy"):
                load(path)


def test_the_way_up_of_latent_attention_may_stand_in_one_tensor(tmp_path):
    model = filled(LATENT)
    a = LATENT.attention
    whole = save(model, tmp_path / "x.gguf").path

    def joined(entries):
        for i, block in enumerate(model.blocks):
            raw = block.attention.w_ukv.weight.detach().numpy().tobytes()
            shape = tuple(block.attention.w_ukv.weight.shape)
            for part in ("k", "v"):
                del entries[f"blk.{i}.attn_{part}_b.weight"]
            name = f"blk.{i}.attn_kv_b.weight"
            entries[name] = Entry(name, shape, KINDS[0], lambda raw=raw: raw)
        return entries

    widths = {
        "key_length": a.d_query,
        "value_length": a.d_value,
        "key_length_mla": None,
        "value_length_mla": None,
    }
    meta = {f"deepseek2.attention.{key}": value for key, value in widths.items()}
    back = load(rewritten(whole, tmp_path / "y.gguf", meta, joined))
    assert back.spec == LATENT
    assert all(torch.equal(t, back.state_dict()[key]) for key, t in model.state_dict().items())


def survives(whole, path, n, seed):
    """Every file with changed bytes in its header is loaded or refused; returns how many were refused."""
    random, data, refused = Random(f"load/{seed}"), whole.read_bytes(), 0
    end = min(place.offset for place in Header.of(whole).tensors.values())
    for _ in range(n):
        changed = bytearray(data)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(24, end)
            changed[at : at + 1] = bytes([random.choice((0, 1, 2, 32, 127, 255, random.randrange(256)))])
        path.write_bytes(
            changed[: random.choice((len(changed), len(changed), random.randrange(end, len(changed))))]
        )
        try:
            load(path)
            tokenizer_of(Header.of(path))
        except (WeightsError, DataError):
            refused += 1
    return refused


def test_fuzzed_files_are_loaded_or_refused(whole, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert survives(whole, tmp_path / "x.gguf", 100, 1) > 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.check
def test_ten_thousand_fuzzed_files(whole, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert survives(whole, tmp_path / "x.gguf", 10_000, 2) > 5_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("name", ["deepseek2", "deepseek2, depth", "llama, stretched", "qwen3moe"])
def test_what_is_expected_is_what_is_written_and_may_lack_biases(tmp_path, name):
    model = filled(ggufs.SPECS[name])
    header = Header.of(save(model, tmp_path / "x.gguf").path)
    assert expected(model, header) == set(header.tensors)
    kept = {name: place for name, place in header.tensors.items() if "exp_probs_b" not in name}
    assert expected(model, dataclasses.replace(header, tensors=kept)) == set(kept)


def split(whole, directory, n_tensors):
    """The file as the package gguf writes it in several."""
    import gguf

    header, data = Header.of(whole), whole.read_bytes()
    writer = gguf.GGUFWriter(directory / "x.gguf", "llama", split_max_tensors=n_tensors)
    for key, value in header.meta.items():
        if key.startswith("llama."):
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(key, value)
    for name, place in header.tensors.items():
        raw = data[place.offset : place.offset + place.n_bytes]
        writer.add_tensor(name, numpy.frombuffer(raw, numpy.float32).reshape(place.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(directory.glob("x-*.gguf"))


def test_a_model_in_several_files_is_opened_by_the_first(whole, tmp_path):
    files = split(whole, tmp_path, 10)
    assert len(files) == 4
    assert Header.of(files[0]).files == tuple(files)
    back = load(files[0])
    assert all(torch.equal(t, back.state_dict()[name]) for name, t in load(whole).state_dict().items())
    with pytest.raises(WeightsError, match="one of 4 files; expected the first"):
        load(files[1])
    files[2].rename(tmp_path / "elsewhere")
    with pytest.raises(WeightsError, match="no .*x-00003-of-00004.gguf"):
        load(files[0])
    shutil.copy(files[1], files[2])
    with pytest.raises(WeightsError, match="repeats"):
        load(files[0])
