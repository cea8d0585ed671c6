"""The processes of one run: start, stop, and the few exchanges that training needs.  The only file that reads
RANK.

`python -m nomoat …` is one process and needs no process group; `torchrun -m nomoat …` makes one of each rank.
What the ranks share is laid out along named axes (axes.py), which torch knows as a DeviceMesh.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from nomoat.config import UserError
from nomoat.parallel.axes import AXES, MeshConfig
from nomoat.parallel.meeting import agree
from nomoat.run.stop import Interrupted

Thing = TypeVar("Thing")
Failure = TypeVar("Failure", UserError, Interrupted)
PATIENCE = timedelta(days=30)  # for what rank 0 does alone


@dataclass(frozen=True)
class Mesh:
    """This process among `world` ranks.  Every exchange is collective: all ranks call it, in one order.

    `axes` is how many parts there are along each axis, `dims` the same as torch's DeviceMesh with the names
    of AXES, None where there is one rank.  Ranks of one pipeline read the same rows of a batch, each other
    rank its own: it is `data_rank` of `data_world`.  `per_node` ranks are on one machine.
    """

    rank: int
    world: int
    device: torch.device
    axes: MeshConfig = MeshConfig(replicate=1)
    dims: DeviceMesh | None = field(default=None, repr=False)
    data_group: dist.ProcessGroup | None = field(default=None, repr=False)  # this rank's data_world
    dense: DeviceMesh | None = field(default=None, repr=False)  # (replicate, parts) of what isn't routed
    per_node: int = 1
    patient: dist.ProcessGroup | None = field(default=None, repr=False)  # all ranks, waiting for rank 0

    def size(self, axis: str) -> int:
        """Parts along an axis."""
        return getattr(self.axes, axis)

    def index(self, axis: str) -> int:
        """Which part along an axis this rank has."""
        inside = math.prod(self.axes.shape[AXES.index(axis) + 1 :])
        return self.rank // inside % self.size(axis)

    def group(self, axis: str) -> dist.ProcessGroup | None:
        """The ranks that differ from this one in an axis alone, in its order; None where it has one part."""
        return self.dims.get_group(axis) if self.dims is not None and self.size(axis) > 1 else None

    @property
    def speaks(self) -> bool:
        """Whether this rank says, on its machine, what all know."""
        return self.rank % self.per_node == 0

    @property
    def expert_nodes(self) -> int:
        """Machines that the ranks of the expert axis lie on, as many on each."""
        return self.size("expert") // math.gcd(self.size("expert"), self.per_node)

    @property
    def data_world(self) -> int:
        return self.world // self.size("pipeline")

    @property
    def data_rank(self) -> int:
        return self.rank % self.data_world

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks that read rows of their own, in place, in one
        exchange; summed in at least float32.
        """
        if self.data_world == 1 or not tensors:
            return
        wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
        with torch.no_grad():
            bucket = torch.cat([t.detach().reshape(-1).to(wide) for t in tensors])
            dist.all_reduce(bucket, group=self.data_group)
            for tensor, piece in zip(tensors, bucket.split([t.numel() for t in tensors])):
                tensor.copy_(piece.view_as(tensor))

    def sums(self, *numbers: float) -> list[float]:
        """The sum of each number over the ranks that read rows of their own."""
        if self.data_world == 1:
            return [*numbers]
        summed = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.all_reduce_sum([summed])
        return summed.tolist()

    def most(self, n: int) -> int:
        """The largest of all ranks' numbers."""
        if self.world == 1:
            return n
        numbers = torch.tensor([n], device=self.device)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return int(numbers.item())

    def share(self, n: int) -> range:
        """Which of `n` rows this rank reads: about as many as any other, those beside each other."""
        ends = [n * rank // self.data_world for rank in (self.data_rank, self.data_rank + 1)]
        return range(*ends)

    def any(self, flag: bool) -> bool:
        """True everywhere if it is true somewhere: a signal, a non-finite loss."""
        if self.world == 1:
            return flag
        votes = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def broadcast(self, thing: Any) -> Any:
        """Rank 0's object, on every rank."""
        if self.world == 1:
            return thing
        things = [thing if self.rank == 0 else None]
        dist.broadcast_object_list(things)
        return things[0]

    def gather(self, thing: Any) -> list[Any]:
        """Every rank's object, in order of rank, on every rank."""
        if self.world == 1:
            return [thing]
        things = [None] * self.world
        dist.all_gather_object(things, thing)
        return things

    def together(self, work: Callable[[], Thing]) -> Thing:
        """What this rank's work gave; a UserError of one is raised on all, once all have tried."""
        given, error = None, None
        try:
            given = work()
        except UserError as caught:
            error = caught
        for rank, failure in enumerate(self.gather(str(error) if error else None)):
            if failure is not None:
                raise self.known(error or UserError(f"rank {rank}: {failure}"))
        return given

    def known(self, error: Failure) -> Failure:
        """An error that every rank raises, which one of a machine says."""
        error.told = not self.speaks
        return error

    def lead(self, work: Callable[[], Thing]) -> Thing:
        """What the work gave that rank 0 alone does, on every rank; a UserError is raised on all, and so is
        Interrupted.

        The others wait for it as long as it takes, which in another exchange is half an hour at most.
        """
        if self.world == 1:
            return work()
        outcome = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = work()
            except (UserError, Interrupted) as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, group=self.patient)
        given, error = outcome
        if error is not None:
            raise self.known(error)
        return given

    def alone(self) -> "Mesh":
        """This rank without the others."""
        return Mesh(0, 1, self.device)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1, device=self.device))


ALONE = Mesh(0, 1, torch.device("cpu"))


def n_ranks() -> int:
    """How many the environment says that there are; `start` says what is wrong with it."""
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isdigit() else 1


def place() -> tuple[int, int]:
    """This rank and how many there are, as the environment says."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0, n_ranks()


def start(
    device: str = "cpu",
    axes: MeshConfig | None = None,
    facts: Callable[[], Mapping[str, str]] = dict,
) -> Mesh:
    """The mesh that the environment describes: alone, or one rank of those that torchrun started.

    `device` is "cpu" (gloo), "cuda" (nccl, one card per rank) or "cuda:<n>" (alone); `axes` are those of the
    recipe, absent: every rank is a replica.  UserError where the device is not there, the axes don't divide
    the ranks, or these are not of one mesh, or have not found the same `facts`.
    """
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    texts = [os.environ.get(name, value) for name, value in alone.items()]
    if not all(text.isdigit() for text in texts) or not int(texts[0]) < int(texts[1]):
        raise UserError(
            f"found RANK, WORLD_SIZE, LOCAL_RANK = {', '.join(texts)}; expected 0 <= RANK < WORLD_SIZE; "
            "start with torchrun, or unset them"
        )
    rank, world, local = map(int, texts)
    axes = (axes or MeshConfig()).on(world)
    where = _device(device, local, world)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if world > 1 and not dist.is_initialized():
        backend = "nccl" if where.type == "cuda" else "gloo"
        store = _store(rank, world)
        found = {**facts(), "[mesh]": axes.says(), "device": where.type}
        agree(store, rank, world, found, speaks=local == 0)
        how = {"store": store, "timeout": timedelta(seconds=axes.hang_seconds)}
        dist.init_process_group(backend, rank=rank, world_size=world, **how)
    if world == 1:
        return Mesh(rank, world, where, axes)
    dims = dist.init_device_mesh(where.type, axes.shape, mesh_dim_names=AXES)
    data_group = dims[AXES[1:]]._flatten("data").get_group() if world > axes.pipeline else None
    per_node = os.environ.get("LOCAL_WORLD_SIZE", "")
    n_near = int(per_node) if per_node.isdigit() else world
    patient = dist.new_group(timeout=PATIENCE, backend="gloo")
    return Mesh(rank, world, where, axes, dims, data_group, _dense(where.type, axes), n_near, patient)


def _store(rank: int, world: int) -> dist.Store:
    """Where the ranks find each other; not where those of an attempt did that torchrun has given up, whose
    addresses are still there."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE is {world} but {', '.join(missing)} is not set; start with torchrun")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and not _is_served()
    try:
        store = dist.TCPStore(address, port, world, serves)
    except dist.DistNetworkError as error:
        if "in use" in str(error):
            raise UserError(
                f"port {port} is in use on this machine; expected a free one for rank 0; set another "
                "MASTER_PORT (torchrun --master-port or --rdzv-endpoint)"
            ) from None
        raise UserError(
            f"rank {rank} finds no rank 0 at {address}:{port}; expected all ranks to start within minutes of "
            "each other; look why rank 0 ended, or at the network"
        ) from None
    except dist.DistStoreError:
        raise UserError(
            f"rank {rank} waited in vain for all of {world} ranks; expected as many as WORLD_SIZE says, "
            "started within minutes of each other; look why the others ended"
        ) from None
    return dist.PrefixStore(_attempt(), store)


def _attempt() -> str:
    """What the keys of this start of the ranks begin with, and no other's on the same store: torchrun counts
    restarts after a failure, each machine its own, not those with more or fewer ranks.
    """
    names = ("TORCHELASTIC_RESTART_COUNT", "WORLD_SIZE") if _is_served() else ()
    return "-".join(("attempt", *(os.environ.get(name, "0") for name in names)))


def _is_served() -> bool:
    """Whether a launcher keeps the store, from one attempt to the next, which else rank 0 makes anew."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def store_beside(seconds: float) -> dist.Store:
    """One more connection to where the ranks find each other, for a thread of its own; an answer that takes
    longer is a RuntimeError, and so is asking before they have met, but where torchelastic starts all at
    once.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and not dist.is_initialized():
        raise dist.DistStoreError("the ranks have not met yet")
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    limit = timedelta(seconds=seconds)
    store = dist.TCPStore(address, port, is_master=False, timeout=limit, wait_for_workers=False)
    return dist.PrefixStore(f"{_attempt()}-beside", store)


def _dense(kind: str, axes: MeshConfig) -> DeviceMesh | None:
    """The ranks as those that share the weights which aren't routed: their copies, and the parts of a copy;
    None where no rank has but a part."""
    parts = axes.shard * axes.expert
    if parts == 1:
        return None
    shape = (axes.pipeline, axes.replicate, parts)
    dims = dist.init_device_mesh(kind, shape, mesh_dim_names=("pipeline", "replicate", "parts"))
    return dims["replicate", "parts"] if axes.replicate > 1 else dims["parts"]


def stop() -> None:
    """Leave the process group, if there is one; `start` may be called again."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _device(name: str, local: int, world: int) -> torch.device:
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and index.isdigit())):
        raise UserError(f'device "{name}" is not known; expected "cpu", "cuda" or "cuda:<n>"')
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            'device = "cuda", but no CUDA device was found; set device = "cpu", or check the driver'
        )
    if colon and world > 1:
        raise UserError(f'device "{name}" names one card for {world} ranks; use "cuda"')
    card, cards = int(index) if colon else local, torch.cuda.device_count()
    if card >= cards:
        raise UserError(f"card {card} was asked for, {cards} found; start at most {cards} ranks per machine")
    return torch.device("cuda", card)
