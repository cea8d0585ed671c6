"""The bounded reader of a GGUF header: what the package reads, nothing that the file doesn't hold."""

import resource
import struct
from random import Random

import pytest

from nomoat.config import WeightsError
from nomoat.weights.gguf import header as gguf
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.kinds import KINDS, NUMBERS
from nomoat.weights.gguf.writer import Entry, chunks

META = {
    "general.architecture": "llama", "a.number": 7, "a.real": 0.5, "a.flag": True, "a.text": "é\n",
    "some.texts": ["x", "", "日本"], "some.numbers": [1, -2, 3], "some.reals": [0.25, -1e9],
}  # fmt: skip
F32, Q8_0 = KINDS[NUMBERS["F32"]], KINDS[NUMBERS["Q8_0"]]


def entry(name, shape, kind=F32):
    n_bytes = Entry(name, shape, kind, bytes).n_bytes
    return Entry(name, shape, kind, lambda: bytes(range(256)) * (n_bytes // 256) + bytes(n_bytes % 256))


ENTRIES = [entry("a", (3, 5)), entry("b.weight", (2, 64), Q8_0), entry("c", (7,)), entry("d", (2, 3, 4, 5))]
WHOLE = b"".join(chunks(META, ENTRIES))


@pytest.fixture
def path(tmp_path):
    def write(data):
        (tmp_path / "x.gguf").write_bytes(data)
        return tmp_path / "x.gguf"

    return write


def test_what_was_written_is_read(path):
    header = Header.of(path(WHOLE))
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in header.meta.items()} == META
    assert {name: (place.shape, place.kind) for name, place in header.tensors.items()} == {
        entry.name: (entry.shape, entry.kind) for entry in ENTRIES
    }
    for entry in ENTRIES:
        place = header.tensors[entry.name]
        assert WHOLE[place.offset : place.offset + place.n_bytes] == entry.data()


def test_the_package_reads_the_same(path):
    from gguf import GGUFReader

    file = path(WHOLE)
    header, theirs = Header.of(file), GGUFReader(file)
    fields = {key: f.contents() for key, f in theirs.fields.items() if not key.startswith("GGUF.")}
    assert fields == META
    for tensor in theirs.tensors:
        place = header.tensors[tensor.name]
        assert (place.offset, place.n_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert place.shape == tuple(tensor.shape.tolist()[::-1])


def test_block_sizes_are_the_packages():
    from gguf.constants import GGML_QUANT_SIZES

    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {number: tuple(kind) for number, kind in KINDS.items()} == theirs


def test_the_second_version_is_read_too(path):
    second = WHOLE[:4] + struct.pack("<I", 2) + WHOLE[8:]
    assert Header.of(path(second)).tensors == Header.of(path(WHOLE)).tensors


def counts(n_tensors, n_keys):
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_keys)


def key(kind, rest):
    return counts(0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<I", kind) + rest


def tensor(*sizes, kind=0, offset=0, n=1):
    info = struct.pack("<Q", 1) + b"t" + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)
    return counts(n, 0) + info * n + bytes(64)


HUGE = (1 << 64) - 1
DAMAGE = {
    "no file": (None, "no .*x.gguf"),
    "empty": (b"", "0 bytes"),
    "a pickle": (b"PK\x03\x04" + bytes(40), "begins with"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + WHOLE[8:], "version 0x1"),
    "high byte first": (b"GGUF" + struct.pack(">I", 3) + WHOLE[8:], "version 0x3000000"),
    "cut in the header": (WHOLE[:200], "announced|ends behind"),
    "cut in the data": (WHOLE[:-40], "ends at byte"),
    "tensors without end": (counts(HUGE, 0) + bytes(64), "are announced"),
    "keys without end": (counts(0, 1 << 20) + WHOLE[24:], "bytes at byte|twice"),
    "a text without end": (key(8, struct.pack("<Q", HUGE)), "bytes at byte"),
    "texts without end": (key(9, struct.pack("<IQ", 8, 1 << 60) + bytes(64)), "items"),
    "numbers without end": (key(9, struct.pack("<IQ", 12, 1 << 20) + bytes(64)), "announced at byte"),
    "arrays in arrays": (key(9, struct.pack("<IQ", 9, 1) + bytes(64)), "type 9"),
    "an unknown type": (key(77, bytes(64)), "type 77"),
    "not UTF-8": (key(8, struct.pack("<Q", 1) + b"\xff"), "not UTF-8"),
    "a key twice": (counts(0, 2) + 2 * (struct.pack("<Q", 1) + b"k" + struct.pack("<II", 4, 1)), "twice"),
    "no axes": (tensor(), "0 axes"),
    "nine axes": (tensor(*[1] * 9), "9 axes"),
    "a size of nothing": (tensor(0, 4), r"sizes \[0, 4\]"),
    "a product beyond all": (tensor(1 << 40, 1 << 40), "sizes"),
    "broken blocks": (tensor(33, kind=8), "blocks of 32"),
    "an unknown kind": (tensor(4, kind=5), "of type 5"),
    "an odd offset": (tensor(4, offset=4), "begins at 4"),
    "behind the end": (tensor(4, offset=1 << 40), "ends at byte"),
    "a tensor twice": (tensor(4, n=2), "twice"),
    "no power of two": (
        counts(0, 1) + struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<II", 4, 3),
        "general.alignment is 3",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(path, tmp_path, name):
    data, message = DAMAGE[name]
    file = tmp_path / "x.gguf" if data is None else path(data)
    with pytest.raises(WeightsError, match=message):
        Header.of(file)


def test_tensors_over_each_other_are_refused(path):
    one = struct.pack("<Q", 1) + b"a" + struct.pack("<IQIQ", 1, 16, 0, 0)
    two = struct.pack("<Q", 1) + b"b" + struct.pack("<IQIQ", 1, 16, 0, 32)
    with pytest.raises(WeightsError, match="'b' begins at 32, within another"):
        Header.of(path(counts(2, 0) + one + two + bytes(256)))


def mutated(data, random):
    """The file with bytes changed, cut out, put in, or cut short; numbers preferred that are large."""
    data = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) or 1)
        match random.randrange(5):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                data[at : at + 8] = struct.pack("<Q", random.choice((HUGE, 1 << 62, 1 << 40, 1 << 31, 0, 1)))
            case 2:
                del data[at : at + random.randint(1, 40)]
            case 3:
                data[at:at] = random.randbytes(random.randint(1, 40))
            case 4:
                del data[at:]
    return bytes(data)


def survives(path, n, seed):
    """Every mutated file is read or refused; returns how many were refused."""
    random = Random(f"fuzz/{seed}")
    refused = 0
    for _ in range(n):
        file = path(mutated(WHOLE, random))
        try:
            Header.of(file)
        except WeightsError:
            refused += 1
    return refused


def test_fuzzed_headers_are_read_or_refused(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert survives(path, 300, 1) > 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.check
def test_ten_thousand_fuzzed_headers(path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert survives(path, 10_000, 2) > 6_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_file_of_twenty_gigabytes_is_told_by_its_header(path):
    big = entry("big", (5 << 10, 1 << 20))
    whole = next(chunks(META, [big]))
    file = path(whole)
    with open(file, "r+b") as sparse:
        sparse.truncate(len(whole) + big.n_bytes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert Header.of(file).tensors["big"].n_bytes == 20 << 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_header_of_empty_texts_alone_is_bounded(path):
    file = path(key(9, struct.pack("<IQ", 8, 1 << 24)))
    with open(file, "r+b") as sparse:
        sparse.truncate(1 << 34)
    with pytest.raises(WeightsError, match=f"more than {gguf.MOST_ITEMS}"):
        Header.of(file)
