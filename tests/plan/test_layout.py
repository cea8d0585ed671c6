"""Laws of a layout: what is split is smaller, what is hidden is free, bubbles are those of the papers."""

import dataclasses

import pytest

from nomoat.config import parse
from nomoat.model import counts
from nomoat.model.spec import PRESETS, Spec
from nomoat.plan import layout as layouts
from nomoat.plan.hardware import read_hardware
from nomoat.plan.layout import BYTES_PER_PARAM, Layout, Workload, search
from nomoat.plan.parts import parts

V3 = PRESETS["deepseek-v3"]
SHAPE = {
    "vocab_size": 32000,
    "n_layers": 32,
    "d_model": 4096,
    "attention": {"kind": "grouped", "n_heads": 32, "n_kv_heads": 8, "d_head": 128},
    "ffn": {"kind": "dense", "d_hidden": 14336},
}
DENSE = parse(Spec, SHAPE, "dense")
H800 = read_hardware().devices["h800"]


def work(shape=V3, device=H800):
    return Workload(parts(shape, 4096), device, 0.4, 15360, 4096, activation_bytes=1)


def price(layout, shape=V3, device=H800):
    return layouts.price(layout, work(shape, device))


def test_parts_add_up_to_the_model():
    for shape in (V3, DENSE):
        p = parts(shape, 4096)
        whole = counts.params_total(shape) + counts.params_mtp(shape)
        assert p.params_embedding + p.params_routed + p.params_shared == whole
    assert parts(V3, 4096).params_routed == 59 * 256 * 3 * 7168 * 2048  # 58 layers and the prediction depth


def test_one_device_holds_everything():
    x = price(Layout(1, 1, 1, 1), DENSE)
    for part, n in BYTES_PER_PARAM.items():
        assert x.memory_bytes[part] == pytest.approx(n * counts.params_total(DENSE))
    assert x.bubble == x.network == 0


@pytest.mark.parametrize(("zero", "split"), [(1, {"optimiser"}), (3, {"optimiser", "gradients"})])
def test_zero_shards_what_it_says(zero, split):
    one, many = price(Layout(1, 1, 1, 1), DENSE), price(Layout(8, 1, 1, 1, zero), DENSE)
    for part in ("gradients", "optimiser"):
        assert many.memory_bytes[part] == pytest.approx(one.memory_bytes[part] / (8 if part in split else 1))
    assert many.memory_bytes["activations"] == one.memory_bytes["activations"]


def test_bubbles_are_those_of_the_papers():
    micro = 15360 / 128

    def bubble(schedule):
        return price(Layout(128, 1, 16, 64, schedule=schedule)).bubble

    assert bubble("1F1B") == pytest.approx(15 * 3 / (micro * 3))  # (PP - 1)(F + B), B = 2F
    assert bubble("DualPipe") == pytest.approx(7 * (3 + 2 - 3) / (micro * 3))  # (PP/2 - 1)(F&B + B - 3W)
    assert bubble("interleaved") == pytest.approx(bubble("1F1B") / 4)  # 62 layers: four stages a device


def test_activations_in_flight_are_those_of_the_papers():
    def rows(schedule):
        kept = price(Layout(128, 1, 16, 64, schedule=schedule)).memory_bytes["activations"]
        return kept / (4096 * 4 * parts(V3, 4096).kept)  # 62 layers: four stages a device

    assert rows("1F1B") == pytest.approx(16)
    assert rows("DualPipe") == pytest.approx(16 + 1)
    assert rows("interleaved") == pytest.approx(16 + 15 / 4)


def test_zero_moves_what_the_paper_says():
    """Gradients in float32 and weights in bf16 once a step, or weights twice and gradients for each row."""
    slow = H800.model_copy(update={"nvlink_bytes_per_second": 1e6})
    params, tokens = counts.params_total(DENSE), 15360 * 4096
    for zero, bytes_per_param in ((1, 4 + 2), (3, (2 + 2 + 4) * 15360 / 8)):
        assert price(Layout(8, 1, 1, 1, zero), DENSE, slow).seconds == pytest.approx(
            bytes_per_param * params / 1e6 * 8 / tokens
        )


def test_dualpipe_doubles_the_weights_and_hides_the_experts_traffic():
    plain, two = (price(Layout(128, 1, 16, 64, schedule=s)) for s in ("1F1B", "DualPipe"))
    assert two.memory_bytes["weights"] == pytest.approx(2 * plain.memory_bytes["weights"], rel=0.05)
    assert two.seconds < plain.seconds / (1 + plain.bubble)


def test_the_experts_traffic_is_that_of_four_nodes():
    """Tokens x 4 nodes x 7168 x (1 B + 2 B), forward and backward, in 59 layers, over 50 GB/s."""
    with_, without = price(Layout(128, 1, 16, 64)), price(Layout(128, 1, 16, 1))
    seconds = with_.seconds / (1 + with_.bubble) - without.seconds / (1 + without.bubble)
    assert seconds == pytest.approx(59 * 4 * 7168 * 3 * 2 / 50e9, rel=0.01)


def test_a_slow_network_binds():
    slow = H800.model_copy(update={"network_bytes_per_second": 1e9})
    x = Layout(128, 1, 16, 64, schedule="DualPipe")
    assert price(x).limit == "compute"
    assert price(x, device=slow).limit == "network"
    assert price(x, device=slow).seconds > price(x).seconds


def test_tensor_parallelism_is_never_hidden():
    one, two = price(Layout(64, 1, 1, 1), DENSE), price(Layout(32, 2, 1, 1), DENSE)
    assert two.seconds - one.seconds == pytest.approx(16 * 4096 * 32 / 200e9, rel=1e-6)


def test_the_search_finds_the_fastest_that_fits():
    found = search(work(), 2048).layouts
    assert all(x.fits for x in found)
    assert [x.seconds for x in found] == sorted(x.seconds for x in found)
    for x in found:
        assert x.data * x.tensor * x.pipeline == 2048
        assert x.data % x.expert == 0
        assert 256 % x.expert == 0
    small = H800.model_copy(update={"memory_bytes": 40e9})
    assert search(work(device=small), 2048).layouts[0].seconds >= found[0].seconds


def test_where_nothing_fits_the_smallest_comes_first():
    ranking = search(work(), 8)
    assert ranking.memory_binds
    assert not ranking.layouts[0].fits
    assert ranking.layouts[0].all_bytes == min(x.all_bytes for x in ranking.layouts)


def test_recomputing_trades_time_for_memory():
    x = Layout(128, 1, 16, 64, schedule="DualPipe")
    again = price(dataclasses.replace(x, recompute=True))
    assert again.memory_bytes["activations"] < price(x).memory_bytes["activations"]
    assert again.seconds > price(x).seconds
