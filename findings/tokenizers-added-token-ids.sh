#!/usr/bin/env bash
# tokenizers 0.23.3: the `id` of an added token in a tokenizer.json is replaced, without a warning, where the token's text
# isn't in the model's vocabulary: the token gets the number of entries in the vocabulary.
#
# Seen: a vocabulary a=0, b=1, c=2 and an added token "<end>" with id 10.  Read back, "<end>" is 3, "a<end>" is
# encoded as [0, 3], and the file written again says 3.  With "<end>": 10 in the vocabulary, too, it is 10: [0, 10].
# Whoever reads the file alone therefore sees another id than the library gives.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3
"$place/env/bin/python" - <<'PYTHON'
import json
import sys

import tokenizers


def read(vocab: dict[str, int]) -> tokenizers.Tokenizer:
    end = {"id": 10, "content": "<end>", "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    return tokenizers.Tokenizer.from_str(
        json.dumps({"version": "1.0", "added_tokens": [end], "model": model})
    )


apart, inside = read({"a": 0, "b": 1, "c": 2}), read({"a": 0, "b": 1, "c": 2, "<end>": 10})
written = json.loads(apart.to_str())["added_tokens"][0]["id"]
print("tokenizers", tokenizers.__version__)
print("text not in the vocabulary:", apart.token_to_id("<end>"), apart.encode("a<end>").ids, "written again:", written)
print("text in the vocabulary:    ", inside.token_to_id("<end>"), inside.encode("a<end>").ids)
as_described = (apart.encode("a<end>").ids, written, inside.encode("a<end>").ids) == ([0, 3], 3, [0, 10])
sys.exit(0 if as_described else 1)
PYTHON
