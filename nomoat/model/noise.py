"""First weights of a model: one stream of random numbers through all its parameters, of which any may be
drawn without the others."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

OUTPUTS = ("w_o", "w_down")  # what writes to the residual stream
PIECE = 2**20  # numbers that are drawn at a time; torch draws sixteen together


class Noise:
    """Normal weights of this `std`, gains 1, biases 0, output projections zero so that every block starts as
    the identity.

    The parameters of `model`, which may be without values, take their numbers from one stream of `seed` in
    their order.  What is not asked for is passed over, and drawn again where it is asked for later.
    """

    def __init__(self, model: nn.Module, std: float, seed: int):
        self.std = std
        self.generator = torch.Generator().manual_seed(seed)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.sizes = {name: math.prod(shape) for name, shape in shapes.items() if _is_drawn(name, shape)}
        self.begins = [self.generator.get_state()]  # before each that was passed, and behind the last one

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Whole parameters by their names, in place; other tensors become 0."""
        for name, tensor in tensors.items():
            if name in self.sizes:
                self._draw(name, tensor)
            else:
                is_gain = tensor.ndim < 2 and name.endswith(".weight")
                tensor.fill_(1.0 if is_gain else 0.0)

    def _draw(self, name: str, tensor: Tensor) -> None:
        place = list(self.sizes).index(name)
        for before in range(len(self.begins) - 1, place):
            self._numbers(before, lambda piece, drawn: None)
        flat = tensor.view(-1)
        self._numbers(place, lambda piece, drawn: flat[piece].copy_(drawn * self.std))

    def _numbers(self, place: int, use: Callable[[slice, Tensor], object]) -> None:
        """Draws those of the parameter at this place."""
        self.generator.set_state(self.begins[place])
        sizes = list(self.sizes.values())
        for piece in _pieces(sizes[place]):
            n = piece.stop - piece.start
            drawn = torch.randn(n, generator=self.generator)
            use(piece, drawn)
        if place + 1 == len(self.begins):
            self.begins.append(self.generator.get_state())


def _is_drawn(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and name.split(".")[-2] not in OUTPUTS


def _pieces(n: int) -> Iterator[slice]:
    """What is drawn one after the other; the last one is no shorter than what torch draws together."""
    start = 0
    while n - start >= 2 * PIECE:
        yield slice(start, start + PIECE)
        start += PIECE
    yield slice(start, n)
