"""Who owns which block of the cache, and which blocks hold a prefix that was computed before."""

from collections import OrderedDict, deque
from collections.abc import Sequence

BLOCK = 32  # positions of a block; native/attention.h lays them out
Key = tuple[int, tuple[int, ...]]  # the number of the prefix before a block, the ids in it


class Blocks:
    """`n` blocks.  A full block is known by all ids up to its end; when nobody holds it, it stays until its
    place is needed, the least recently used first.
    """

    def __init__(self, n: int):
        self.n = n
        self.free = deque(range(n))
        self.holders = [0] * n
        self.kept: OrderedDict[int, None] = (
            OrderedDict()
        )  # blocks that nobody holds, the oldest first
        self.block_of: dict[Key, int] = {}
        self.key_of: dict[int, Key] = {}
        self.number_of = [
            0
        ] * n  # of the prefix that ends with a full block; 0: none that is known
        self.n_prefixes = 0

    @property
    def n_available(self) -> int:
        return len(self.free) + len(self.kept)

    def take(self) -> int:
        """An empty block.  The caller has asked whether one is available."""
        if self.free:
            block = self.free.popleft()
        else:
            block, _ = self.kept.popitem(last=False)
            del self.block_of[self.key_of.pop(block)]
        self.holders[block], self.number_of[block] = 1, 0
        return block

    def hold(self, block: int) -> None:
        self.kept.pop(block, None)
        self.holders[block] += 1

    def release(self, block: int) -> None:
        self.holders[block] -= 1
        if self.holders[block] == 0:
            if block in self.key_of:
                self.kept[block] = None
            else:
                self.free.append(block)

    def seen(self, ids: Sequence[int]) -> list[int]:
        """The blocks that hold the longest known prefix of `ids`, all of it but its last id at most."""
        blocks, number = [], 0
        for start in range(0, (len(ids) - 1) // BLOCK * BLOCK, BLOCK):
            block = self.block_of.get((number, tuple(ids[start : start + BLOCK])))
            if block is None:
                break
            blocks.append(block)
            number = self.number_of[block]
        return blocks

    def learn(self, blocks: Sequence[int], place: int, ids: Sequence[int]) -> None:
        """`blocks[place]` is full: from now on it is known by the ids up to its end."""
        block = blocks[place]
        number = self.number_of[blocks[place - 1]] if place else 0
        if self.number_of[block] or (place and not number):
            return
        start = place * BLOCK
        key = (number, tuple(ids[start : start + BLOCK]))
        if key in self.block_of:  # computed twice at the same time
            self.number_of[block] = self.number_of[self.block_of[key]]
            return
        self.n_prefixes += 1
        self.number_of[block] = self.n_prefixes
        self.block_of[key] = block
        self.key_of[block] = key

    def forget(self) -> None:
        """No prefix is known any more: for weights that changed."""
        self.free.extend(self.kept)
        self.kept.clear()
        self.block_of.clear()
        self.key_of.clear()
        self.number_of = [0] * self.n


def n_blocks(n_positions: int) -> int:
    return -(-n_positions // BLOCK)
