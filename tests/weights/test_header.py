"""Headers of safetensors: what the library writes and reads, we read and write; anything else is an error
that says why, whatever bytes a file has, in little memory.
"""

import json
import resource
import struct
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nomoat.config import WeightsError
from nomoat.weights import header
from nomoat.weights.files import WEIGHTS, Tensors

KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.bool]
TENSORS = {f"t{i}": torch.arange(i * 3).reshape(i, 3).to(kind) for i, kind in enumerate(KINDS)}
TENSORS["one"] = torch.tensor(1.5)


def outgoing(tensors):
    return {n: header.Outgoing(t.dtype, tuple(t.shape), lambda t=t: t) for n, t in tensors.items()}


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.float(), other.float())


def test_what_the_library_writes_is_read(tmp_path):
    save_file(TENSORS, tmp_path / WEIGHTS, metadata={"format": "pt"})
    tensors = Tensors.of(tmp_path)
    assert tensors.entries.keys() == TENSORS.keys()
    assert all(equal(tensors.tensor(name), TENSORS[name]) for name in TENSORS)


def test_what_is_written_the_library_reads(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"".join(header.file_of(outgoing(TENSORS))))
    back = load_file(tmp_path / WEIGHTS)
    assert back.keys() == TENSORS.keys()
    assert all(equal(back[name], TENSORS[name]) for name in TENSORS)
    assert all(entry.start % entry.dtype.itemsize == 0 for entry in header.read(tmp_path / WEIGHTS).values())


def test_a_tensor_that_begins_between_two_of_its_numbers_is_read(tmp_path):
    table = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    write(tmp_path / WEIGHTS, json.dumps(table).encode(), b"\7" + struct.pack("<2f", 1.5, -2))
    assert Tensors.of(tmp_path).tensor("b").tolist() == [1.5, -2]


def test_stacked_experts_stand_under_their_names_apart(tmp_path):
    gate_up, down = torch.randn(3, 8, 5), torch.randn(3, 5, 4)
    at = "model.layers.0.mlp.experts"
    save_file({f"{at}.gate_up_proj": gate_up, f"{at}.down_proj": down}, tmp_path / WEIGHTS)
    tensors = Tensors.of(tmp_path)
    assert len(tensors.entries) == 9
    for e in range(3):
        assert torch.equal(tensors.tensor(f"{at}.{e}.gate_proj.weight"), gate_up[e, :4])
        assert torch.equal(tensors.tensor(f"{at}.{e}.up_proj.weight"), gate_up[e, 4:])
        assert torch.equal(tensors.tensor(f"{at}.{e}.down_proj.weight"), down[e])


def write(path: Path, text: bytes, data: bytes = b"", n_header: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(text) if n_header is None else n_header) + text + data)


def one(**changes) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


HOSTILE = {
    "empty": b"",
    "seven bytes": b"1234567",
    "a pickle": b"PK\x03\x04" + bytes(100),
    "header longer than the file": struct.pack("<Q", 1 << 62) + b"{}",
    "header too long": struct.pack("<Q", 33 << 20) + b" " * (33 << 20),
    "no header": struct.pack("<Q", 0),
    "a list": b"[1]",
    "a number": b"12",
    "not UTF-8": b'{"\xff": 1}',
    "deep": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
    "a name twice": b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "a": {}}',
    "a tensor that is a list": b'{"a": []}',
    "an unknown type": one(dtype="F4"),
    "a type that is a list": one(dtype=["F32"]),
    "a shape with a fraction": one(shape=[2.0]),
    "a negative shape": one(shape=[-2]),
    "a huge shape": one(shape=[1 << 61, 1 << 61]),
    "a shape of truth values": one(shape=[True, True]),
    "nine axes": one(shape=[1] * 9),
    "offsets backwards": one(data_offsets=[8, 0]),
    "offsets beyond": one(data_offsets=[0, 1 << 61], shape=[1 << 59]),
    "three offsets": one(data_offsets=[0, 8, 8]),
    "another key": one(more=1),
    "a gap": one(data_offsets=[4, 12]),
    "not a number": one(shape=[float("nan")]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_errors_that_say_why(tmp_path, name):
    text = HOSTILE[name]
    if text[:1] in (b"{", b"[", b"1") and name != "seven bytes":
        write(tmp_path / WEIGHTS, text, bytes(8))
    else:
        (tmp_path / WEIGHTS).write_bytes(text)
    with pytest.raises(WeightsError, match="expected a safetensors file"):
        header.read(tmp_path / WEIGHTS)


@pytest.mark.parametrize("shape", [[1 << 40, 2, 0], [5000, 2, 1], [4, 3, 2]])
def test_stacks_of_too_many_or_odd_experts_are_not_taken_apart(tmp_path, shape):
    n_bytes = shape[0] * shape[1] * shape[2] * 4
    table = {"x.experts.gate_up_proj": {"dtype": "F32", "shape": shape, "data_offsets": [0, n_bytes]}}
    write(tmp_path / WEIGHTS, json.dumps(table).encode(), bytes(n_bytes))
    if not n_bytes:
        assert list(Tensors.of(tmp_path).entries) == ["x.experts.gate_up_proj"]
    else:
        with pytest.raises(WeightsError, match="stacked"):
            Tensors.of(tmp_path)


def mutated(random: Random, whole: bytes) -> bytes:
    """The file with a few bytes changed, moved, cut, doubled, or with words of its header exchanged."""
    data = bytearray(whole)
    n_header = int.from_bytes(whole[:8], "little")
    for _ in range(random.randint(1, 3)):
        end = random.choice((8, 8 + n_header, max(len(data), 1)))
        at = random.randrange(max(min(end, len(data)), 1))
        match random.randrange(7):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                del data[at : at + random.randint(1, 40)]
            case 2:
                data[at:at] = random.randbytes(random.randint(1, 16))
            case 3:
                data = data[:at]
            case 4:
                words = b"F32 BF16 U8 -1 1e9 99999999999999999999 [ } null \x22".split()
                old = random.choice((b"F32", b"0", b"8", b"[", b"]", b",", b":", b'"a'))
                new = random.choice(words)
                data = bytearray(bytes(data).replace(old, new, random.randint(1, 3)))
            case 5:
                length = random.choice((0, 1, n_header - 1, n_header + 1, 1 << 40, 2**64 - 1))
                data[0:8] = struct.pack("<Q", length)
            case 6:
                data += random.randbytes(random.randint(1, 64))
    return bytes(data)


def fuzz(directory: Path, n: int, seed: int) -> tuple[int, int]:
    """(files read, files that the library reads and we refuse); every other one is a WeightsError."""
    random = Random(seed)
    path = directory / WEIGHTS
    tensors = {"a": torch.ones(2, 3), "b.experts.gate_up_proj": torch.ones(2, 4, 3).half()}
    whole = b"".join(header.file_of(outgoing(tensors)))
    n_read = n_stricter = 0
    for _ in range(n):
        path.write_bytes(mutated(random, whole))
        try:
            opened = Tensors.of(directory)
            n_bytes = sum(tensor.nbytes for _, tensor, _ in opened.read(opened.entries))
            assert n_bytes <= path.stat().st_size
            n_read += 1
        except WeightsError as error:
            assert str(path) in str(error)
            n_stricter += readable(path)
    return n_read, n_stricter


def readable(path: Path) -> bool:
    try:
        load_file(path)
    except (SafetensorError, ValueError, KeyError, UnicodeDecodeError):
        return False
    return True


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("n", [300, pytest.param(10_000, marks=pytest.mark.check)])
def test_no_mutated_file_is_more_than_an_error(tmp_path, n):
    before = peak_bytes()
    n_read, n_stricter = fuzz(tmp_path, n, seed=n)
    assert n_read > n // 200
    assert n_stricter < n // 20
    assert peak_bytes() - before < 200 << 20
