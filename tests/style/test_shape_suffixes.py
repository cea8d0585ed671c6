"""Names that spell their axes, executed.

Inside `nomoat` a local called `..._BTD` has three axes, and each letter one size per function call.  An axis of length
one broadcasts and says nothing.
"""

import contextlib
import re
import sys

import pytest
import torch
from shapes import built, shape

from nomoat.engine.decoder import Decoder
from nomoat.model.moe import sequence_balance_loss
from nomoat.model.spec import Yarn

SUFFIX = re.compile(r"_([A-Z][A-Zcr]*)$")


@contextlib.contextmanager
def shape_suffixes(package: str, seen: set[str]):
    lies: list[str] = []

    def on_return(frame, event, _):
        if event != "return" or f"/{package}/" not in frame.f_code.co_filename:
            return
        size: dict[str, tuple[int, str]] = {}
        for name, value in frame.f_locals.items():
            match, shape = SUFFIX.search(name), getattr(value, "shape", None)
            if match is None or not isinstance(shape, tuple):
                continue
            seen.add(name)
            where = f"{frame.f_code.co_filename.rsplit('/', 1)[1]}:{frame.f_code.co_qualname} {name}{list(shape)}"
            if len(shape) != len(match[1]):
                lies.append(f"{where}: {len(match[1])} letters, {len(shape)} axes")
                continue
            for letter, n in zip(match[1], shape):
                first, owner = size.setdefault(letter, (n, name))
                if first == 1:
                    size[letter] = (n, name)
                elif n not in (1, first):
                    lies.append(f"{where}: {letter}={n} but {letter}={first} in {owner}")

    before = sys.getprofile()
    sys.setprofile(on_return)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert not lies, "names that lie about shapes:\n  " + "\n  ".join(dict.fromkeys(lies))


SPEC = shape(  # no two axes alike, so that a lie shows
    vocab_size=61, n_layers=2, d_model=29, n_heads=3, d_nope=10, d_rope=8, d_value=9, d_kv_latent=14, d_q_latent=13,
    d_ffn=37, n_dense_layers=1, n_routed=6, n_shared=2, n_active=2, n_groups=3, n_active_groups=2, d_expert=17, n_mtp=2,
    yarn=Yarn(factor=2.0, original_context=8),
)  # fmt: skip
WAYS = {
    "sorted, fused": {},
    "wide, plain": {"experts": "wide", "attention": "plain"},
    "no query latent": {"d_q_latent": None},
}


@pytest.mark.parametrize("way", WAYS)
def test_names_do_not_lie_about_shapes(way):
    seen: set[str] = set()
    B, T, S = 5, 11, 12
    with shape_suffixes("nomoat", seen):
        model = built(SPEC, **WAYS[way]).initialise(0)
        ids_BT = torch.arange(B * T).view(B, T) % SPEC.vocab_size
        mask = torch.ones(B, 1, T, T, dtype=torch.bool).tril()
        h_BTD, routings = model.hidden(ids_BT, torch.arange(T).expand(B, T), mask)
        deep = model.predict_further(h_BTD, ids_BT, mask)
        balance = sum(sequence_balance_loss(r, B, SPEC.ffn.n_active) for r in routings)
        (model.logits(h_BTD).sum() + sum(h.sum() for h in deep) + balance).backward()
        model.blocks[1].ffn.balance(routings[0].load_E(), 0.1)
        with torch.no_grad():
            decoder = Decoder(model)
            decoder.prefill(ids_BT[:, :7].tolist(), S - 7, 0)
            for t in range(7, T):
                decoder.step(ids_BT[:, t])
    assert {"h_BTD", "c_kv_BTC", "cis_BTr", "weights_BHS", "gate_MK", "f_BE"} <= seen


def test_a_lie_is_found():
    def liar():
        x_BT = torch.zeros(2, 3)  # noqa: F841
        y_TB = torch.zeros(2, 3)  # noqa: F841
        z_B = torch.zeros(2, 3)  # noqa: F841

    with pytest.raises(AssertionError) as found, shape_suffixes("style", set()):
        liar()
    for lie in ("y_TB[2, 3]: T=2 but T=3 in x_BT", "y_TB[2, 3]: B=3 but B=2 in x_BT", "z_B[2, 3]: 1 letters, 2 axes"):
        assert lie in str(found.value)
