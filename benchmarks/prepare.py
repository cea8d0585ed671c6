"""`nomoat data prepare` beside datatrove's tokeniser step: MB of text a second of one core, the same text.

    python -m benchmarks.prepare [--megabytes 4] [--rounds 7] [--vocab 4096] [--json]

Both read the same .jsonl with the same tokenizer, write the same tokens in the same order with an end mark
behind each document, and have one thread.  Ours also writes begin marks, and sums digests; both write where
documents end.  Seconds are of the processor, so that other work counts less.
datatrove: pip install nomoat[data] orjson.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from nomoat.data import preparing, sources, units, workers
from nomoat.data.units import Choices
from nomoat.tokenizer import bpe

PIECE = 2000  # characters of a document


def write_text(path: Path, n_bytes: int) -> int:
    """Pieces of what ships, as .jsonl; bytes of their text."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for document in sources.shipped("train"):
            for start in range(0, len(document.text), PIECE):
                piece = document.text[start : start + PIECE]
                file.write(json.dumps({"text": piece}, ensure_ascii=False) + "\n")
                written += len(piece.encode())
                if written >= n_bytes:
                    return written
    return written


def ours(folder: Path, source: Path, tokenizer: bpe.Tokenizer) -> Callable[[], None]:
    out = folder / "ours"

    def step() -> None:
        shutil.rmtree(out, ignore_errors=True)
        units.begin(out, [source], tokenizer, Choices())
        workers.step(str(out))

    return step


def theirs(folder: Path, source: Path) -> Callable[[], None]:
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.logging import logger

    logger.remove()
    out = folder / "theirs"

    def step() -> None:
        shutil.rmtree(out, ignore_errors=True)
        read = JsonlReader(str(source.parent), glob_pattern=source.name)
        tokenizer = str(folder / "tokenizer" / "tokenizer.json")
        write = DocumentTokenizer(str(out), tokenizer, eos_token="<|eos|>", shuffle_documents=False)
        for _ in write(read(None, 0, 1), 0, 1) or ():
            pass

    return step


def same_tokens(folder: Path, bos_id: int) -> bool:
    """Whether both wrote the same tokens, ours without the begin marks."""
    (their_file,) = (folder / "theirs").glob("*.ds")
    files = sorted(folder.glob("ours/**/tokens.bin"))
    found = np.concatenate([np.fromfile(path, np.uint16) for path in files])
    return np.array_equal(found[found != bos_id], np.fromfile(their_file, np.uint16))


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*.*"))


def processor_seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def in_turns(
    sides: Mapping[str, Callable[[], None]], rounds: int, n_bytes: int
) -> dict[str, list[float]]:
    """MB a second of the processor of every side in every round; the first warms up."""
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, step in sides.items():
            seconds = processor_seconds(step)
            if number:
                rates[side].append(n_bytes / 1e6 / seconds)
    return rates


def told(n_bytes: int, per_core: float, same: bool, sizes: Sequence[int]) -> list[str]:
    """What stands below the table."""
    seconds = n_bytes / 1e6 / per_core
    rate = preparing.Rate(n_bytes, 0, 0, seconds, 2)
    notes = [f"the same tokens: {same}; bytes written: ours {sizes[0]:,}, theirs {sizes[1]:,}"]
    for n_cores in preparing.CORES:
        hours = rate.hours(preparing.TERABYTE, n_cores)
        notes.append(f"1 TB at this rate: {hours:.1f} h on {n_cores} cores")
    out_bytes = sizes[0] / n_bytes
    notes.append(f"{out_bytes:.3f} bytes out a byte of text")
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "text.jsonl"
        n_bytes = write_text(source, int(args.megabytes * 1e6))
        tokenizer = bpe.train((d.text for d in sources.shipped("train")), args.vocab)
        tokenizer.save(folder / "tokenizer")
        sides = {"ours": ours(folder, source, tokenizer), "theirs": theirs(folder, source)}
        rates = in_turns(sides, args.rounds, n_bytes)
        same = same_tokens(folder, tokenizer.layout.bos_id)
        sizes = [size_of(folder / side) for side in sides]
    setting = "no shuffling, 10,000 a batch"
    row = common.compare("text to tokens", "MB/s a core", rates["ours"], rates["theirs"], setting)
    notes = told(n_bytes, statistics.median(rates["ours"]), same, sizes)
    surroundings = common.environment(1, "tokenizers", "datatrove")
    title = f"prepare, {n_bytes / 1e6:.1f} MB, vocabulary {args.vocab}"
    common.report(title, [row], surroundings, notes, args.json)


if __name__ == "__main__":
    main()
