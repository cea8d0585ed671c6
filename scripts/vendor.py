"""Puts the libraries of the pages into nomoat/serve/pages/web/vendor, as npm has them, and locks them.

python scripts/vendor.py              # packs each by name and version, writes files and vendor.json
python scripts/vendor.py --check      # compares without writing

A file that is no ES module gets a line before and behind it that makes it one; vendor.json says which.
"""

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import JsonObject

VENDOR = Path(__file__).resolve().parents[1] / "nomoat" / "serve" / "pages" / "web" / "vendor"
LOCK = "vendor.json"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package, and what makes it an ES module."""

    path: str  # in the package
    name: str  # here
    head: str = ""
    tail: str = ""

    def bytes_of(self, found: bytes) -> bytes:
        """The file as it lies here; a map of the source, which isn't here, is not pointed to."""
        if not self.path.endswith((".js", ".css")):
            return found
        lines = found.decode().rstrip().split("\n")
        kept = [line for line in lines if not line.startswith("//# sourceMappingURL=")]
        return (self.head + "\n".join(kept).rstrip() + "\n" + self.tail).encode()


@dataclass(frozen=True, slots=True)
class Library:
    """One package of npm."""

    name: str
    version: str
    licence: str  # the one that is chosen where there are several
    members: tuple[Member, ...]

    @property
    def all_members(self) -> tuple[Member, ...]:
        return (*self.members, Member("LICENSE", f"{self.name}.LICENSE.txt"))


COMMONJS = "const module = {exports: {}}, exports = module.exports;\n"
LIBRARIES = (
    Library("marked", "18.2.1", "MIT", (Member("lib/marked.esm.js", "marked.js"),)),
    Library(
        "dompurify",
        "3.5.0",
        "Apache-2.0",
        (Member("dist/purify.min.js", "dompurify.js", COMMONJS, "export default module.exports;\n"),),
    ),
    Library(
        "temml",
        "0.13.5",
        "MIT",
        (
            Member("dist/temml.min.js", "temml.js", tail="export default temml;\n"),
            Member("dist/Temml-Local.css", "temml.css"),
            Member("dist/Temml.woff2", "Temml.woff2"),  # script capitals alone, as the style sheet names it
        ),
    ),
    Library(
        "uplot",
        "1.6.32",
        "MIT",
        (
            Member("dist/uPlot.iife.min.js", "uplot.js", tail="export default uPlot;\n"),
            Member("dist/uPlot.min.css", "uplot.css"),
        ),
    ),
)


def packed(library: Library, scratch: Path) -> tuple[str, dict[str, bytes]]:
    """(integrity as npm writes it, path -> bytes of each member) of a package, which npm compares."""
    asked = ["npm", "pack", f"{library.name}@{library.version}", "--pack-destination", scratch]
    subprocess.run(asked, check=True, capture_output=True)
    archive = scratch / f"{library.name}-{library.version}.tgz"
    files = {member.path: read(archive, member) for member in library.all_members}
    return integrity_of(archive.read_bytes()), files


def integrity_of(data: bytes) -> str:
    """As npm writes it."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def read(archive: Path, member: Member) -> bytes:
    with tarfile.open(archive) as files:
        return files.extractfile(f"package/{member.path}").read()


def made() -> dict[str, bytes]:
    """Name -> bytes of every file that belongs into the directory, the lock included."""
    found, rows = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        for library in LIBRARIES:
            integrity, files = packed(library, Path(scratch))
            mine = {each.name: each.bytes_of(files[each.path]) for each in library.all_members}
            found |= mine
            rows.append(locked(library, integrity, mine))
    table = json.dumps({"libraries": rows}, indent=1)
    return {**found, LOCK: f"{table}\n".encode()}


def locked(library: Library, integrity: str, files: dict[str, bytes]) -> JsonObject:
    """What the lock says of a library."""
    members = [
        {
            "file": each.name,
            "from": each.path,
            "head": each.head,
            "tail": each.tail,
            "bytes": len(files[each.name]),
            "sha256": hashlib.sha256(files[each.name]).hexdigest(),
        }
        for each in library.all_members
    ]
    facts = {"name": library.name, "version": library.version, "licence": library.licence}
    return {**facts, "integrity": integrity, "files": members}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare without writing")
    check = parser.parse_args().check
    found = made()
    if check:
        at = {path.name: path.read_bytes() for path in VENDOR.iterdir()}
        differ = [name for name in {*found, *at} if at.get(name) != found.get(name)]
        print("\n".join(f"{name} differs" for name in differ) or "all as npm has them")
        return bool(differ)
    VENDOR.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        (VENDOR / name).write_bytes(data)
        print(f"{len(data):>8,} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
