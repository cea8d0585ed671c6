"""First weights from counts: embedding and head as the best bigram model of their rank, in place of noise.

With output projections at zero a block is the identity, so that the untrained model's logits are head @
norm(embed[a]). Their best values are known without a gradient: with counts n(a, b) of neighbours in the
training tokens,

    log p(b|a) = log p(b) + left_a . right_b,  p(b|a) = (n(a, b) + k p(b)) / (n(a) + k)  (B1)

where left and right are the truncated singular vectors of the matrix of log p(b|a) / p(b), its entries
weighted by sqrt(n(a) p(b)) so that frequent pairs count (as in Levy and Goldberg 2014, "Neural word embedding
as implicit matrix factorization", of pointwise mutual information); singular vectors by random projection
(Halko et al., arXiv 0909.4061, algorithm 4.4).  Two coordinates are kept for the frequencies log p(b) and for
filling each row to one length, which the norm before the head needs; a random rotation then spreads all of
them.  Counting takes a pass over the tokens.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nomoat.config import ConfigError
from nomoat.model.spec import Spec

SMOOTHING = 226.0  # k: a context seen less often than this leans on the frequencies
OVERSAMPLED = 10  # random directions beyond the rank
LARGEST_VOCAB = 16_384  # whose pairs take some gigabytes to count


@torch.no_grad()
def from_bigrams(spec: Spec, tokens: np.ndarray, seed: int) -> tuple[Tensor, Tensor, int]:
    """(embedding, head, the FLOPs that it took) of a model, from the neighbours in `tokens`."""
    if spec.tied:
        raise ConfigError(
            'the model\'s head is its embedding; counts need both: set tied = false, or weights = "noise"'
        )
    V, D = spec.vocab_size, spec.d_model
    if V > LARGEST_VOCAB:
        raise ConfigError(
            f'counts of {V} x {V} pairs; expected at most {LARGEST_VOCAB} tokens: set weights = "noise"'
        )
    rank = min(D, V) - 2
    generator = torch.Generator().manual_seed(seed)
    left, right, p_V = _bigrams(tokens, V, rank, generator)
    longest = left.norm(dim=1).quantile(0.99)  # few rare rows are longer, and are cut to it
    left *= (longest / left.norm(dim=1)).clamp(max=1)[:, None]

    # Two more coordinates: one meets the frequencies, one fills each row of the embedding to its length.
    once = torch.full((V, 1), float(longest) / 2)
    rest = (longest**2 - left.square().sum(1)).clamp(min=0).sqrt()
    rows = torch.cat((left, once, rest[:, None]), 1)
    length = rows.norm(dim=1, keepdim=True)
    frequency_V = p_V.log() - p_V.log().mean()
    heads = torch.cat((right, frequency_V[:, None] / once, torch.zeros(V, 1)), 1)

    turn = torch.linalg.qr(torch.randn(D, rank + 2, generator=generator))[0]
    embed = rows / length @ turn.mT
    head = heads * length.mean() / math.sqrt(D) @ turn.mT
    return embed, head, 2 * V * V * (rank + OVERSAMPLED) * 4


def _bigrams(
    tokens: np.ndarray, V: int, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """(left, right, p(b)): factors of the ratios, weighted while they are found."""
    log_ratio_VV, n_V, p_V = _log_ratios(tokens, V)
    row_V = (n_V + 1).sqrt()
    row_V = row_V / row_V.mean()
    column_V = (p_V * V).sqrt()
    weighted_VV = log_ratio_VV * row_V[:, None] * column_V
    left, right = _factors(weighted_VV, rank, generator)
    return left / row_V[:, None], right / column_V[:, None], p_V


def _log_ratios(tokens: np.ndarray, V: int) -> tuple[Tensor, Tensor, Tensor]:
    """(log p(b|a) / p(b), n(a), p(b)) of (B1)."""
    pairs = np.asarray(tokens[:-1], np.int64) * V + np.asarray(tokens[1:], np.int64)
    n_VV = torch.from_numpy(np.bincount(pairs, minlength=V * V).astype(np.float32)).view(V, V)
    n_V, p_V = n_VV.sum(1), (n_VV.sum(0) + 0.1) / (n_VV.sum() + 0.1 * V)
    return ((n_VV / p_V + SMOOTHING) / (n_V[:, None] + SMOOTHING)).log_(), n_V, p_V


def _factors(matrix: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """left @ right.T, of this rank, nearest to the matrix (arXiv 0909.4061); each takes the root of the
    singular values.
    """
    directions = torch.randn(len(matrix), rank + OVERSAMPLED, generator=generator)
    basis, _ = torch.linalg.qr(matrix @ directions)
    basis, _ = torch.linalg.qr(matrix @ (matrix.mT @ basis))

    # The largest of a small matrix are those of the large one, turned back by the basis.
    u, s, v = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    root = s[:rank].sqrt()
    left = basis @ u[:, :rank] * root
    return left, v[:rank].mT * root
