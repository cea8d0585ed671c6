#!/usr/bin/env bash
# transformers 5.24.0: `apply_chat_template` drops what is None from each message before the template sees it,
# so a template that asks `message['content'] is none`, as DeepSeek R1's and its distilled models' do, never
# writes a call of a tool.
#
# Seen: the assistant's message {"content": None, "tool_calls": [...]}, as OpenAI's API returns it, ends in
# "UndefinedError: 'dict object' has no attribute 'content'", for a key that was there; with a default for
# what is undefined the call is left out without a word, and so it is with "content": "".
# `render_jinja_template`, which `apply_chat_template` hands the messages to, writes the call where it is
# given them with None.
#
# Exit code 0: as described; 1: the behaviour has changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 jinja2==3.1.6
"$place/env/bin/python" - <<'PYTHON'
import sys

import tokenizers
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

CALLS = (
    "{% for m in messages %}{% if m['content'] is none %}{% for call in m['tool_calls'] %}"
    "<call>{{ call['function']['name'] }}</call>{% endfor %}{% endif %}"
)
TEXT = "{% if m['content'] is not none %}{{ '<text>' + m['content'] + '</text>' }}{% endif %}{% endfor %}"
STRICT = CALLS + TEXT
LENIENT = STRICT.replace("+ m['content'] +", "+ (m['content'] | default('')) +")


def messages(content: str | None) -> list[dict]:
    function = {"name": "weather", "arguments": {"city": "Rome"}}
    call = {"id": "a", "type": "function", "function": function}
    return [{"role": "assistant", "content": content, "tool_calls": [call]}]


model = tokenizers.models.WordLevel({"a": 0}, unk_token="a")
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))


def applied(template: str, content: str | None) -> str:
    try:
        return tokenizer.apply_chat_template(messages(content), chat_template=template, tokenize=False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


directly = render_jinja_template([messages(None)], chat_template=STRICT)[0][0]
found = [applied(STRICT, None), applied(LENIENT, None), applied(STRICT, "")]
print("transformers", transformers.__version__)
print("content None, the template alone: ", directly)
for what, text in zip(("None", "None, lenient", "empty"), found):
    print(f"content {what}, apply_chat_template: {text}")
lost = "UndefinedError: 'dict object' has no attribute 'content'"
sys.exit(0 if (directly, *found) == ("<call>weather</call>", lost, "<text></text>", "<text></text>") else 1)
PYTHON
