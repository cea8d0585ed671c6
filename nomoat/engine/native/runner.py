"""Steps computed by step.c: the faster runner on a processor, and an invariant one."""

import ctypes
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch
from torch import Tensor

from nomoat.engine.batch import Batch, Drawn
from nomoat.engine.blocks import BLOCK
from nomoat.engine.native import build, layout
from nomoat.model.rope import turns
from nomoat.model.spec import Latent, Spec
from nomoat.model.transformer import Transformer

FEW = 8  # up to so many tokens the threads share columns, beyond that tokens
ROWS = 12  # of a tile, at most
SPARE = 1024  # numbers that rounding up the parts of a memory may take
WORTH_A_THREAD = 2e6  # multiply-adds of a step from which on a second thread brings more than it costs


class NativeRunner:
    """Every number is one sum in a fixed order, whatever the batch and the number of threads: the results
    of a row are the same bits alone and in any company.  Arithmetic is float32.  `precision` says how
    weights are stored: as the model has them, in int8, or in bfloat16.  With "bf16" and tiles
    (build.tiles()) products round what they multiply by the weights as well, and count denormals as zero;
    without tiles they don't.  Routers are as the model has them.
    """

    invariant = True

    def __init__(
        self, model: Transformer, n_blocks: int, precision: layout.Precision = "as is"
    ):
        self.model, self.precision = model, precision
        self.library = build.library()
        self.n_threads = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(max(self.n_threads - 1, 1), "step")
        spec, self.n_blocks = model.spec, n_blocks
        self.width = self.library.width()
        n_layers, n_heads, key_width, value_width = cached(spec, self.width)
        shape = (n_blocks, n_layers, n_heads, BLOCK)
        # numpy asks for zeros that take no memory before they are written
        self.caches = [
            torch.from_numpy(np.zeros((*shape, w), np.float32))
            for w in (key_width, value_width)
        ]
        keys, values = self.caches
        self.cache = layout.Cache(
            keys.data_ptr(), values.data_ptr(), n_layers, n_heads, key_width, value_width
        )
        positions = torch.arange(min(spec.context, n_blocks * BLOCK))
        self.cos_sin = torch.view_as_real(turns(spec, positions)).contiguous()
        self.logits = torch.empty(0)
        self.hidden_MD = torch.empty(0, spec.d_model)
        self.memory: dict[tuple[str, int], Tensor] = {}
        self.refresh()

    @staticmethod
    def block_bytes(model: Transformer) -> int:
        n_layers, n_heads, *widths = cached(model.spec, build.library().width())
        return 4 * n_layers * n_heads * BLOCK * sum(widths)

    def refresh(self) -> None:
        self.weights = layout.Weights(self.model, self.width, self.precision)
        self.record = self.weights.record(self.cos_sin, self.cache)
        self.work = sum(w.numel() for w in self.model.parameters() if w.ndim > 1)

    def copy(self, source: int, target: int) -> None:
        for numbers in self.caches:
            numbers[target] = numbers[source]

    def run(self, batch: Batch) -> Drawn:
        M, n_out, V = len(batch.ids_M), len(batch.out), self.model.spec.vocab_size
        if len(self.logits) < n_out:
            self.logits = torch.empty(n_out, V)
        if len(self.hidden_MD) < M:
            self.hidden_MD = torch.empty(M, self.model.spec.d_model)
        chosen = np.empty(n_out, np.int32)
        logps = np.empty(n_out, np.float32)
        many = M * self.work > WORTH_A_THREAD
        follows = batch.slot_M[1:] == batch.slot_M[:-1]
        record = layout.Batch(
            M=M,
            n_out=n_out,
            max_blocks=batch.tables.shape[1],
            depth=batch.depth,
            by_columns=M <= FEW,
            joined=bool(follows.any()),
            n_threads=self.n_threads if many else 1,
            ids=_address(batch.ids_M),
            pos=_address(batch.pos_M),
            sequence=_address(batch.slot_M),
            tables=_address(batch.tables),
            out=_address(batch.out),
            temperature=_address(batch.temperature),
            uniform=_address(batch.uniform),
            logits=self.logits.data_ptr(),
            hidden=self.hidden_MD.data_ptr(),
            chosen=_address(chosen),
            logp=_address(logps),
        )
        self._in_threads(record)
        return Drawn(chosen.tolist(), logps.tolist(), self.logits[:n_out])

    def _in_threads(self, record: ctypes.Structure) -> None:
        """The step; whoever shares columns with the others shares memory with them."""
        n_each = record.M if record.by_columns else -(-record.M // record.n_threads)
        own, shared = needs(self.model.spec, n_each, record.n_out, self.n_blocks * BLOCK)
        memory = []
        for i in range(record.n_threads):
            place = 0 if record.by_columns else i
            mine = self._memory("own", i, own)
            ours = self._memory("shared", place, shared)
            memory.append((mine, ours))
        numbers = range(1, record.n_threads)
        rest = [self.pool.submit(self._step, record, i, *memory[i]) for i in numbers]
        try:
            self._step(record, 0, *memory[0])
        finally:
            wait(rest)

    def _step(self, record: ctypes.Structure, number: int, own: int, shared: int) -> None:
        pointers = ctypes.c_void_p(own), ctypes.c_void_p(shared)
        self.library.step(ctypes.byref(self.record), ctypes.byref(record), number, *pointers)

    def _memory(self, name: str, number: int, n: int) -> int:
        found = self.memory.get((name, number))
        if found is None or len(found) < n:
            found = self.memory[name, number] = torch.empty(n)
        return found.data_ptr()


def cached(spec: Spec, width: int) -> tuple[int, int, int, int]:
    """Layers, key-value heads, and how wide a key and a value lie in the cache."""
    a, n_layers = spec.attention, spec.n_layers + spec.n_mtp
    if isinstance(a, Latent):
        return n_layers, 1, a.d_kv_latent + a.d_rope, _rounded_up(a.d_kv_latent, width)
    return n_layers, a.n_kv_heads, a.d_head, _rounded_up(a.d_value, width)


def needs(spec: Spec, n: int, n_out: int, n_positions: int) -> tuple[int, int]:
    """Numbers that a thread needs for `n` tokens, by itself and beside the others: a bound of what step.c
    takes.
    """
    a = spec.attention
    fact = defaultdict(int, layout.numbers(spec))
    D, H, F = spec.d_model, a.n_heads, max(fact["d_shared"], fact["d_dense"])
    C, E, K = fact["d_kv_latent"], fact["n_routed"], fact["n_active"]
    d_queries = H * a.d_query
    if isinstance(a, Latent):
        d_in = (a.d_q_latent or d_queries) + C + a.d_rope
    else:
        d_in = sum(a.widths)
    d_row = 2 * (C + a.d_rope + a.d_value) + min(n_positions, spec.context + BLOCK) + SPARE
    reading = max(H, ROWS) * d_row  # the rows of read_cache
    attention = n * (d_in + d_queries + H * (2 * C + a.d_rope)) + d_in + reading
    fed_forward = n * (E + 3 * K + 2 * D + 3 * fact["d_expert"] + F)
    own = (n + 1) * 3 * D + max(attention, fed_forward, n_out * D)
    wide = max(d_in + d_queries + H * a.d_value, K * D + 2 * F)
    shared = (n + 1) * 2 * D + n * wide
    return own + SPARE, shared + SPARE


def _address(array: np.ndarray) -> int:
    return array.ctypes.data


def _rounded_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
