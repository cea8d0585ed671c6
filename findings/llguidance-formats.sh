#!/usr/bin/env bash
# llguidance 1.9.1: three string formats of JSON Schema admit texts that the standards behind them rule out,
# without a word.
#
# Seen: "time" admits the second 60 in any minute and offset (RFC 3339: only a leap second, 23:59:60 UTC);
# "email" admits a local part of more than 64 characters (RFC 5321); "hostname" admits more than 253 characters
# (RFC 1123).  A reply that was held to such a schema can therefore be refused by a validator that checks
# formats, as jsonschema-rs 0.61.0 does.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    llguidance==1.9.1 jsonschema-rs==0.61.0
"$place/env/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

import jsonschema_rs
import llguidance

BYTES = llguidance.LLTokenizer("byte")
TEXTS = {
    "time": "10:47:60Z",
    "email": f"{'a' * 65}@example.org",
    "hostname": ".".join(["a" * 60] * 5),
}


def admits(schema: dict, text: str) -> bool:
    matcher = llguidance.LLMatcher(BYTES, llguidance.LLMatcher.grammar_from_json_schema(schema), log_level=0)
    return matcher.consume_tokens([*json.dumps(text).encode()]) and matcher.is_accepting()


print("llguidance", version("llguidance"), "jsonschema-rs", version("jsonschema-rs"))
found = {}
for name, text in TEXTS.items():
    schema = {"type": "string", "format": name}
    found[name] = admits(schema, text), jsonschema_rs.is_valid(schema, text, validate_formats=True)
    admitted, valid = found[name]
    print(f"{name}: {text[:30]} ({len(text)} characters): llguidance admits {admitted}, valid {valid}")
plain = admits({"type": "string", "format": "time"}, "10:47:61Z")
print("time: 10:47:61Z: llguidance admits", plain)
sys.exit(0 if set(found.values()) == {(True, False)} and not plain else 1)
PYTHON
