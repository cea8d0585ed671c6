"""Modules of JavaScript as one script: each a function of what it imports, in the order of their imports.

For our own modules and those that ship beside them: imports and exports stand at the beginning of a line, an
export is a declaration, a list or a default.
"""

import re
from pathlib import Path

IMPORT = re.compile(
    r'^import (?:(?P<default>\w+)|\* as (?P<all>\w+)|\{(?P<names>[^}]*)\}) from "(?P<path>[^"]+)";$', re.M
)
DECLARED = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const|let) ([\w$]+))", re.M)
LISTED = re.compile(r"^export \{([^}]*)\};$", re.M)
DEFAULT = re.compile(r"^export default ([\w.]+);$", re.M)


def bundle(entry: Path) -> str:
    """The script of a module and of all that it needs, each once."""
    order: dict[Path, str] = {}
    _visit(entry.resolve(), order, ())
    names = {path: f"module{i}" for i, path in enumerate(order)}
    parts = [_wrapped(path, text, names) for path, text in order.items()]
    script = "\n".join(['"use strict";', *parts])
    if "</script" in script or "<!--" in script:
        raise ValueError(f"{entry}: a script that HTML would end; split the text")
    return script


def _visit(path: Path, order: dict[Path, str], above: tuple[Path, ...]) -> None:
    if path in above:
        raise ValueError(f"{path} imports itself through {above[-1]}")
    if path in order:
        return
    text = path.read_text("utf-8")
    for found in IMPORT.finditer(text):
        _visit((path.parent / found["path"]).resolve(), order, (*above, path))
    order[path] = text


def _wrapped(path: Path, text: str, names: dict[Path, str]) -> str:
    def imported(found: re.Match[str]) -> str:
        return _constants(found, names[(path.parent / found["path"]).resolve()])

    body = IMPORT.sub(imported, text)
    for form in (DECLARED, DEFAULT, LISTED):
        body = form.sub("", body)
    if left := re.search(r"^(import|export)\b.*", body, re.M):
        raise ValueError(f"{path}: a form that the bundle does not know: {left[0]}")
    exported = ", ".join(_exported(text))
    name = names[path]
    return f"const {name} = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();"


def _exported(text: str) -> list[str]:
    """The names that a module gives away."""
    names = list(DECLARED.findall(text))
    for listed in LISTED.findall(text):
        names += filter(None, map(str.strip, listed.split(",")))
    return names + [f"default: {name}" for name in DEFAULT.findall(text)]


def _constants(found: re.Match[str], source: str) -> str:
    """What an import gives names to, from the object that a module became."""
    if found["all"]:
        return f"const {found['all']} = {source};"
    if found["default"]:
        return f"const {found['default']} = {source}.default;"
    names = found["names"].replace(" as ", ": ")
    return f"const {{{names}}} = {source};"
