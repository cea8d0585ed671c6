"""Any number of ranks goes on with what another number saved; a save beside the training changes nothing."""

import errno
import math
import os
import shutil
import threading

import pytest
import ranks
import torch
from shapes import shape

from nomoat.config import WeightsError
from nomoat.data.packing import Batch
from nomoat.model.transformer import Transformer
from nomoat.parallel.fsdp import spread
from nomoat.parallel.mesh import ALONE
from nomoat.train import checkpoint, saver
from nomoat.train.disk import FS
from nomoat.train.loop import reduce_gradients
from nomoat.train.objective import ObjectiveConfig, accumulate
from nomoat.train.optim import OptimConfig, Optimizer
from nomoat.train.parts import Part, shares
from nomoat.train.saver import Saver

SHAPES = {"tall": (7, 3), "wide": (2, 8), "row": (1, 5), "stack": (5, 2, 2), "bias": (3,), "scalar": ()}


def whole(name: str, key: int = 0) -> torch.Tensor:
    """The tensor as one rank would have it."""
    generator = torch.Generator().manual_seed(key + len(name))
    return torch.randn(SHAPES[name], generator=generator)


def held(mesh, key: int) -> dict[str, torch.Tensor]:
    """What this rank has of each: parts of rows, of columns, of both, or everything."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    if mesh.world == 1:
        return {name: whole(name, key).clone() for name in SHAPES}
    line = init_device_mesh("cpu", (mesh.world,))
    tensors = {"bias": whole("bias", key), "scalar": whole("scalar", key)}
    places = {"tall": Shard(0), "row": Shard(0), "wide": Shard(1), "stack": Shard(0)}
    for name, place in places.items():
        tensors[name] = distribute_tensor(whole(name, key), line, [place])
    if mesh.world == 4:
        square = init_device_mesh("cpu", (2, 2))
        tensors["tall"] = distribute_tensor(whole("tall", key), square, [Replicate(), Shard(0)])
        tensors["stack"] = distribute_tensor(whole("stack", key), square, [Shard(0), Shard(1)])
    return tensors


def saved(mesh, root: str, *keys: int):
    for key in keys:
        checkpoint.save(root, key, {"a": held(mesh, key)}, {"key": key}, mesh=mesh)


def read_back(mesh, *roots: str) -> list[tuple[str, int]]:
    """The newest checkpoints that are whole, equal to the bit, and how many damaged ones were passed over."""
    seen = []
    for root in roots:
        notes = []
        path = checkpoint.newest(root, notes.append, mesh)
        key = int(path.name[5:])
        tensors = {"a": held(mesh, key + 99)}
        assert checkpoint.restore(path, tensors) == {"key": key}
        for name, tensor in tensors["a"].items():
            mine = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            assert torch.equal(mine, whole(name, key)), (root, name)
        seen.append((path.name, len(notes)))
    return seen


def damaged(template, root, file: str):
    """A copy with one bit of the newest checkpoint's file flipped."""
    shutil.copytree(template, root)
    path = max(root.iterdir()) / file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return str(root)


def test_two_ranks_go_on_with_what_three_saved_all_with_the_one_that_is_whole(tmp_path):
    ranks.run(saved, 3, str(tmp_path / "whole"), 1, 2)
    files = "rank_0000.safetensors", "rank_0001.safetensors", "rank_0002.safetensors", "state.json"
    copies = [damaged(tmp_path / "whole", tmp_path / file, file) for file in files]
    found = [("step_000002", 0), *[("step_000001", 1)] * 4]
    assert ranks.run(read_back, 2, str(tmp_path / "whole"), *copies) == [found] * 2
    assert read_back(ALONE, str(tmp_path / "whole"), *copies) == found
    table = checkpoint._table(tmp_path / "whole" / "step_000002")
    for name, whole_shape in SHAPES.items():  # each number was written once
        parts = [part for _, _, part in table[f"a/{name}"]]
        assert sum(math.prod(part.shape) for part in parts) == math.prod(whole_shape)
        assert len(parts) == {"bias": 1, "scalar": 1, "row": 1, "wide": 3}.get(name, 3)


@pytest.mark.check
def test_any_number_of_ranks_goes_on_with_what_any_other_saved(tmp_path):
    roots = [str(tmp_path / str(n)) for n in (1, 2, 3, 4)]
    for n, root in enumerate(roots, 1):
        ranks.run(saved, n, root, n)
    for m in (1, 2, 3, 4):
        found = [(f"step_{n:06d}", 0) for n in (1, 2, 3, 4)]
        assert ranks.run(read_back, m, *roots) == [found] * m


def test_ranks_that_call_different_tensors_by_one_name_are_refused():
    part = Part("a", (0,), (2,), (4,), 8)
    assert shares([[part], [Part("a", (2,), (2,), (4,), 8)]]) == [{"a@0"}, {"a@2"}]
    with pytest.raises(ValueError, match="leave a hole"):
        shares([[part], [part]])


def test_what_is_not_there_or_in_another_shape_is_a_clear_error(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"a": {"w": torch.ones(4, 2)}}, {})
    for wrong in ({"v": torch.ones(4, 2)}, {"w": torch.ones(5, 2)}, {"w": torch.ones(8)}):
        with pytest.raises(WeightsError, match="has not all of a/"):
            checkpoint.restore(path, {"a": wrong})


SPEC = shape(
    vocab_size=40, n_layers=2, d_model=12, n_heads=2, d_nope=4, d_rope=4, d_value=4, d_kv_latent=8,
    d_dense=24, n_dense_layers=1, n_routed=4, n_shared=1, n_active=2, d_expert=8, context=16,
)  # fmt: skip
ROWS = 12


def trained(mesh, root: str, last: int) -> list[float]:
    """The losses of steps from the newest checkpoint on, or from the beginning; saved at the last one."""
    model = spread(Transformer(SPEC).initialise(3), mesh)
    optimizer = Optimizer(model, OptimConfig(), mesh)

    def tensors():
        return {"optimizer": optimizer.tensors(), "buffers": dict(model.named_buffers())}

    first, losses, share = 0, [], mesh.share(ROWS)
    path = checkpoint.newest(root, pytest.fail, mesh)
    if path is not None:
        saved = tensors()
        first = checkpoint.restore(path, saved)["step"]
        optimizer.load(saved["optimizer"])
    saver = Saver(root, mesh, pytest.fail)
    for step in range(first, last):
        ids = (torch.arange(17) * (step + 1) + torch.arange(ROWS)[:, None]) % 40
        mine = ids[share.start : share.stop]
        batch = Batch(mine[:, :-1], mine[:, 1:].contiguous(), torch.zeros(len(mine), 16, dtype=torch.int32))
        computed = accumulate(model, [batch], ObjectiveConfig(), mesh)
        optimizer.step(1.0, reduce_gradients(mesh, optimizer))
        computed.after()
        losses.append(computed.loss)
    saver.begin(last, tensors(), {"step": last})
    saver.close()
    return losses


def copied(root, to) -> str:
    return str(shutil.copytree(root, to))


def test_one_rank_goes_on_with_what_two_had_in_parts(tmp_path):
    whole_losses = trained(ALONE, str(tmp_path / "whole"), 6)
    first, second = ranks.run(trained, 2, str(tmp_path / "parts"), 3, shard=2)
    assert first == second
    assert first == pytest.approx(whole_losses[:3], rel=1e-5)
    sizes = [p.stat().st_size for p in (tmp_path / "parts" / "step_000003").glob("rank_*")]
    assert max(sizes) < 1.1 * min(sizes)
    assert trained(ALONE, str(tmp_path / "parts"), 6) == pytest.approx(whole_losses[3:], rel=1e-5)


@pytest.mark.check
@pytest.mark.parametrize(
    ("n", "axes"), [(1, {}), (2, {"shard": 2}), (3, {"shard": 3}), (4, {"shard": 2}), (2, {})]
)
def test_any_number_goes_on_to_the_same_losses(tmp_path, n, axes):
    whole_losses = trained(ALONE, str(tmp_path / "whole"), 6)
    ranks.run(trained, n, str(tmp_path / "begun"), 3, **axes)
    for m, others in ((1, {}), (2, {"shard": 2}), (3, {"shard": 3}), (4, {"shard": 4}), (4, {"shard": 2})):
        root = copied(tmp_path / "begun", tmp_path / f"{m} of {others}")
        for losses in ranks.run(trained, m, root, 6, **others):
            assert losses == pytest.approx(whole_losses[3:], rel=1e-5), (n, m)


class Slow(FS):
    """A disk that waits before each file is made durable."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def fsync(self, fd):
        self.reached.set()
        self.go.wait()
        os.fsync(fd)


def test_a_save_beside_the_training_has_the_tensors_of_its_beginning(tmp_path):
    disk, failures = Slow(), []
    saver = Saver(tmp_path, ALONE, lambda step, error: failures.append(step), disk)
    w = torch.ones(3)
    saver.begin(1, {"a": {"w": w}}, {"n": [1]})
    disk.reached.wait()
    w += 1  # the training goes on
    saver.poll()
    assert checkpoint.newest(tmp_path, print) is None
    disk.go.set()
    saver.begin(2, {"a": {"w": w}}, {})  # waits for the first
    assert checkpoint.load(tmp_path / "step_000001")[0]["a"]["w"].tolist() == [1, 1, 1]
    saver.close()
    assert checkpoint.load(tmp_path / "step_000002")[0]["a"]["w"].tolist() == [2, 2, 2]
    assert failures == []


def test_what_is_too_large_to_be_held_twice_is_written_as_it_is_when_the_save_returns(tmp_path, monkeypatch):
    monkeypatch.setattr(saver, "BESIDE_BYTES", 20)
    tensor = torch.arange(6.0)
    saving = saver.Saver(tmp_path, ALONE, failed=None)
    saving.begin(1, {"a": {"x": tensor}}, {})
    assert checkpoint.load(tmp_path / "step_000001")[0]["a"]["x"].tolist() == [0, 1, 2, 3, 4, 5]
    share = checkpoint.Share({"a": {"x": tensor}}, ALONE)
    copies = [share.copies({"a": {"x": tensor}}, own=own) for own in (True, False)]
    assert [next(iter(c.values())).data_ptr() == tensor.data_ptr() for c in copies] == [False, True]


def test_a_disk_that_fails_beside_the_training_is_said_and_the_older_one_stays(tmp_path):
    class Full(FS):
        def write(self, fd, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoint.save(tmp_path, 1, {"a": {"w": torch.ones(3)}}, {})
    failures = []
    saver = Saver(tmp_path, ALONE, lambda step, error: failures.append((step, error.errno)), Full())
    saver.begin(2, {"a": {"w": torch.ones(3)}}, {})
    saver.wait()
    saver.begin(3, {"a": {"w": torch.ones(3)}}, {}, OSError(errno.EIO, "the log"))
    saver.close()
    assert failures == [(2, errno.ENOSPC), (3, errno.EIO)]
    assert [p.name for p in tmp_path.iterdir()] == ["step_000001"]


def beside(mesh, root: str):
    """Exchanges of the training go on while two ranks save, one of them onto a full disk the second time."""

    class Full(FS):
        def write(self, fd, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    failures = []
    saver = Saver(root, mesh, lambda step, error: failures.append((step, error.errno)))
    tensors = {"a": held(mesh, 5)}
    saver.begin(5, tensors, {"key": 5})
    for _ in range(200):
        assert mesh.gather(mesh.rank) == list(range(mesh.world))
    saver.wait()
    saver.fs = Full() if mesh.rank == 1 else saver.fs
    saver.begin(6, tensors, {})
    for _ in range(50):
        mesh.barrier()
    saver.close()
    return failures


def test_saving_and_training_exchange_at_once_and_one_full_disk_is_everybodys(tmp_path):
    assert ranks.run(beside, 2, str(tmp_path)) == [[(6, errno.ENOSPC)]] * 2
    assert read_back(ALONE, str(tmp_path)) == [("step_000005", 0)]
