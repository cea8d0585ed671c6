"""Texts that begin alike, in one row: each beginning once, then what follows it, and attention text by text.

Of a dense mask over such a row most is closed; here a text is multiplied with its beginning and itself alone.
Products elsewhere in the model see the row, which has no padding: only attention lays the texts out in
rectangles, texts of similar length in one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nomoat.model import kernels
from nomoat.model.spec import Kernels

SHORTEST = 0.75  # of the longest text of a rectangle, less SLACK tokens
SLACK = 4


class _Lay(torch.autograd.Function):
    """out[z] = x[token[z]]; dx[m] = dout[place[m]]: what an empty place holds has no gradient."""

    @staticmethod
    def forward(ctx, x, token, place):
        ctx.save_for_backward(place)
        return x.index_select(0, token)

    @staticmethod
    def backward(ctx, grad):
        return grad.index_select(0, *ctx.saved_tensors), None, None


class _Lift(torch.autograd.Function):
    """out[m] = x[place[m]]; dx[z] = dout[token[z]], and zero where z is empty."""

    @staticmethod
    def forward(ctx, x, token, place, empty):
        ctx.save_for_backward(token, empty)
        return x.index_select(0, place)

    @staticmethod
    def backward(ctx, grad):
        token, empty = ctx.saved_tensors
        return grad.index_select(0, token).index_fill_(0, empty, 0), None, None, None


class _Repeat(torch.autograd.Function):
    """out[i] = x[index[i]]; dx = sum of dout over the i of each, by one product: adding them up line by line
    takes several times as long.
    """

    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.n = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        (index,) = ctx.saved_tensors
        chosen = torch.nn.functional.one_hot(index, ctx.n).to(grad.dtype)
        total = chosen.T @ grad.flatten(1)
        return total.unflatten(1, grad.shape[1:]), None


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Texts that follow each other in a row, as lines of `width` places.

    `token` is the column of theirs that each place holds, any in one of the places `empty`; `place` the
    place of each column.  `begins` says behind which beginning each text stands, of a rectangle
    of beginnings nothing.  `mask` (lines or 1, 1, width, keys) is true where a query may attend to a key.
    """

    width: int
    token: Tensor
    place: Tensor
    empty: Tensor
    begins: Tensor | None
    mask: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], begins: Sequence[int] | None = None) -> "Rectangle":
        width = max(lengths)
        ends = torch.tensor(lengths)[:, None]
        filled = torch.arange(width) < ends
        filled = filled.flatten()
        place = filled.nonzero().flatten()
        empty = filled.logical_not().nonzero().flatten()
        numbers = filled.cumsum(0) - 1  # of an empty place that of the one before
        token = numbers.clamp(min=0)
        of = None if begins is None else torch.tensor(begins)
        return cls(width, token, place, empty, of, None)

    @property
    def n_lines(self) -> int:
        return len(self.token) // self.width

    def lay(self, x: Tensor) -> Tensor:
        """(lines, H, width, N) of its columns (T, H, N)."""
        laid = _Lay.apply(x, self.token, self.place)
        return laid.unflatten(0, (-1, self.width)).transpose(1, 2)

    def behind_its(self, begin: Tensor, x: Tensor) -> Tensor:
        """Laid out, each text behind its beginning: (lines, H, keys, N)."""
        return torch.cat((_Repeat.apply(begin, self.begins), self.lay(x)), 2)

    def lift(self, o: Tensor) -> Tensor:
        """Back: (columns, H, W)."""
        flat = o.transpose(1, 2).flatten(0, 1)
        return _Lift.apply(flat, self.token, self.place, self.empty)

    def behind(self, lengths: Tensor) -> "Rectangle":
        """With its mask: the texts behind beginnings of these lengths, laid out as the longest of them."""
        width = self.width
        longest = int(lengths.max())
        own_lengths = lengths[self.begins]
        if int(own_lengths.min()) == longest:
            own_lengths = own_lengths[:1]
        begun = torch.arange(longest) < own_lengths[:, None]
        shared = begun[:, None].expand(-1, width, -1)
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        own = causal.expand(len(begun), -1, -1)
        mask = torch.cat([shared, own], -1)
        return replace(self, mask=mask[:, None])

    def to(self, device: torch.device) -> "Rectangle":
        moved = {
            name: value.to(device)
            for name in ("token", "place", "empty", "begins", "mask")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the texts of one row are: the beginnings, then the texts behind them, the longest first."""

    beginnings: Rectangle
    texts: tuple[Rectangle, ...]

    @classmethod
    def of(cls, beginnings: Sequence[int], texts: Sequence[tuple[int, int]]) -> "Spans":
        """From the lengths of the beginnings, and (number of its beginning, length) of each text in the order
        of the row: the longest first."""
        out = []
        for some in _alike(texts):
            rectangle = Rectangle.of([n for _, n in some], [begin for begin, _ in some])
            out.append(rectangle.behind(torch.tensor(beginnings)))
        return cls(Rectangle.of(beginnings), tuple(out))

    @property
    def n_scores(self) -> int:
        """Pairs of a query and a key that are multiplied, empty places included."""
        P = self.beginnings.width
        behind = sum(part.n_lines * part.width * (P + part.width) for part in self.texts)
        return self.beginnings.n_lines * P * P + behind

    def to(self, device: torch.device) -> "Spans":
        return Spans(self.beginnings.to(device), tuple(part.to(device) for part in self.texts))

    def prepared(self, how: Kernels, like: Tensor) -> "Spans":
        """With masks as `kernels.attend` reads them."""
        return Spans(*self._prepared(how, like))

    def _prepared(self, how: Kernels, like: Tensor) -> Iterator:
        mask = kernels.mask_for(how, None, self.beginnings.width, like)
        yield replace(self.beginnings, mask=mask)
        masks = [kernels.mask_for(how, part.mask, part.width, like) for part in self.texts]
        yield tuple(replace(part, mask=mask) for part, mask in zip(self.texts, masks))

    def attend(self, q_BHTN: Tensor, k_BUTN: Tensor, v_BUTW: Tensor, scale: float, how: Kernels) -> Tensor:
        """As `kernels.attend`, of one row: B = 1."""
        begin = self.beginnings
        queries = self._split(q_BHTN)
        keys = self._split(k_BUTN)
        values = self._split(v_BUTW)
        k_begin = begin.lay(keys[0])
        v_begin = begin.lay(values[0])
        q = begin.lay(queries[0])
        o = kernels.attend(q, k_begin, v_begin, begin.mask, scale, how)
        out = [begin.lift(o)]
        for i, part in enumerate(self.texts, 1):
            q = part.lay(queries[i])
            k = part.behind_its(k_begin, keys[i])
            v = part.behind_its(v_begin, values[i])
            o = kernels.attend(q, k, v, part.mask, scale, how)
            out.append(part.lift(o))
        joined = torch.cat(out).transpose(0, 1)
        return joined[None]

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """(1, H, T, N) -> (T, H, N), rectangle by rectangle."""
        n_columns = [len(part.place) for part in (self.beginnings, *self.texts)]
        return x.transpose(1, 2).flatten(0, 1).split(n_columns)


def _alike(texts: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The texts, the longest first, in parts of similar length; what is empty has no place."""
    some: list[tuple[int, int]] = []
    for text in texts:
        if some and text[1] < SHORTEST * some[0][1] - SLACK:
            yield some
            some = []
        if text[1]:
            some.append(text)
    if some:
        yield some


def attend(
    q_BHTN: Tensor,
    k_BUTN: Tensor,
    v_BUTW: Tensor,
    mask: Tensor | Spans | None,
    scale: float,
    how: Kernels,
) -> Tensor:
    """softmax(scale q k^T) v over whole rows, or text by text; `mask` is what Transformer.mask made."""
    if isinstance(mask, Spans):
        return mask.attend(q_BHTN, k_BUTN, v_BUTW, scale, how)
    return kernels.attend(q_BHTN, k_BUTN, v_BUTW, mask, scale, how)
