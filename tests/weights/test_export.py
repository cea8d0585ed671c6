"""Out, with proof: what is left reads back equal, or nothing is left."""

import pytest
import torch
from shapes import built, shape

from nomoat.config import DataError, WeightsError
from nomoat.tokenizer.bpe import Tokenizer, train
from nomoat.weights import directory, export, facts

SPEC = shape(
    vocab_size=300, n_layers=2, d_model=16, n_heads=2, d_nope=8, d_rope=4, d_value=8, d_kv_latent=8,
    d_ffn=24, n_routed=4, n_active=2, d_expert=8, context=64, n_mtp=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return built(SPEC).initialise(1).eval()


def test_what_is_left_is_the_main_model_and_its_tokenizer(tmp_path, model):
    tokenizer = train(["a small text about numbers, 1 2 3"] * 4, vocab_size=300)
    main = export.without_depths(model)
    export.to_directory(main, tmp_path / "new" / "out", tokenizer=tokenizer, card="# A card")
    back = directory.load(tmp_path / "new" / "out")
    ids_BT = torch.arange(20)[None]
    torch.testing.assert_close(back(ids_BT), model(ids_BT), rtol=0, atol=0)
    assert Tokenizer.load(tmp_path / "new" / "out").fingerprint == tokenizer.fingerprint
    assert (tmp_path / "new" / "out" / "README.md").read_text() == "# A card"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    with pytest.raises(DataError, match="not empty; expected a new place"):
        export.to_directory(main, tmp_path / "new" / "out")


@pytest.mark.parametrize("type", ["bf16", "f16"])
def test_fewer_bits_are_the_nearest_numbers(tmp_path, model, type):
    main = export.without_depths(model)
    export.to_directory(main, tmp_path / "out", type=type)
    back = directory.load(tmp_path / "out").state_dict()
    for name, tensor in main.state_dict().items():
        kept = tensor if "router" in name or "bias" in name else tensor.to(export.DTYPES[type]).float()
        torch.testing.assert_close(back[name], kept, rtol=0, atol=0)


def test_fp8_is_deepseeks_layout_with_the_depth(tmp_path, model):
    export.to_directory(model, tmp_path / "out", type="fp8")
    told = facts.describe(tmp_path / "out")
    assert told.spec == SPEC
    assert told.dtypes["float8_e4m3fn"] > told.parameters / 4
    back = directory.load(tmp_path / "out")
    ids_BT = torch.arange(20)[None]
    assert (back(ids_BT) - model(ids_BT)).std() < 0.1 * model(ids_BT).std()
    export.to_directory(back, tmp_path / "again", type="fp8")
    again = directory.load(tmp_path / "again").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in back.state_dict().items())


def test_what_reads_back_otherwise_is_named_and_nothing_is_left(tmp_path, model, monkeypatch):
    honest = directory.load

    def flipped(*args, **how):
        back = honest(*args, **how)
        back.head.weight.data[0, 0] += 1
        return back

    monkeypatch.setattr(directory, "load", flipped)
    with pytest.raises(WeightsError, match="1 tensors of .* read back otherwise: head.weight \\(by 1\\)"):
        export.to_directory(export.without_depths(model), tmp_path / "out")
    assert not list(tmp_path.iterdir())
