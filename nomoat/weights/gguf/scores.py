"""Tokenizers of Llama 2's kind: no merges in the file but a score for each token.  No torch here.

llama.cpp joins whatever two neighbours make a token, the highest score first, the leftmost of equals; a
tokenizer.json lists pairs in order.  Both are the same where scores differ and single characters are tokens.
"""

from collections.abc import Iterator, Sequence

from nomoat.config import JsonObject

BLANK = "▁"


def merges(tokens: Sequence[str], scores: Sequence[float], joinable: Sequence[bool]) -> list[list[str]]:
    """Every pair of tokens that makes a token, in the order of the score of what it makes.

    `joinable` says which tokens take part; controls and bytes don't.
    """
    known = {token for token, joins in zip(tokens, joinable) if joins}
    made = []
    for id in sorted(range(len(tokens)), key=lambda id: (-scores[id], id)):
        if tokens[id] in known:
            made += map(list, _pairs(tokens[id], known))
    return made


def of_merges(tokens: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[float]:
    """A score for each token, such that `merges` gives these pairs back if any scores do."""
    first: dict[str, int] = {}
    for left, right in pairs:
        first.setdefault(left + right, len(first))
    return [-float(first.get(token, len(first))) for token in tokens]


def _pairs(token: str, known: set[str]) -> Iterator[tuple[str, str]]:
    for at in range(1, len(token)):
        left, right = token[:at], token[at:]
        if left in known and right in known:
            yield left, right


def steps(blank_before: bool) -> JsonObject:
    """Normalizer and decoder: ▁ for a blank, and one before the text where the file says so."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    before = {"type": "Prepend", "prepend": BLANK}
    back = {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}
    first = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*([before] if blank_before else []), replace]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                back,
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *([first] if blank_before else []),
            ],
        },
    }
