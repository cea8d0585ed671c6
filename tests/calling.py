"""Templates that tell of tools, in the shape of published ones, and conversations that call some."""

import json

import borrowed

from nomoat.tokenizer import foreign
from nomoat.tokenizer.bpe import Tokenizer

# In the shape of Qwen3's: tools in the system turn, results merged into a turn of the user, thoughts of the
# last question alone.
QWEN = r"""
{%- set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- if tools %}{{- '<|im_start|>system\n' + system + '<tools>' }}
{%- for tool in tools %}{{- '\n' + tool | tojson }}{% endfor %}{{- '\n</tools><|im_end|>\n' }}
{%- elif system %}{{- '<|im_start|>system\n' + system + '<|im_end|>\n' }}{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}{% set content = m.content if m.content is string else '' %}
{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + content + '<|im_end|>\n' }}
{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}{# begin #}
{%- set chain = m.reasoning_content if m.reasoning_content is string else '' %}
{%- if loop.index0 > ns.last and (loop.last or chain) %}
{{- '<think>\n' + chain + '\n</think>\n\n' }}{% endif %}
{{- content }}{# said #}
{%- for call in m.tool_calls or [] %}{% set call = call.function %}
{{- '\n' if content or not loop.first else '' }}
{{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments if call.arguments is string else call.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}{{- '<|im_end|>' }}{# end #}{{- '\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.previtem.role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\n' }}{% endif %}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
# In the shape of Llama 3.1's: tools in the first question, one call and nothing beside it.
LLAMA = r"""{{- bos_token }}
{%- set head = '<|start_header_id|>%s<|end_header_id|>\n\n' %}
{%- if messages[0].role == 'system' %}
{{- head % 'system' + messages[0].content + '<|eot_id|>' }}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}
{%- if 'tool_calls' in m %}
{%- if m.tool_calls | length > 1 %}{{- raise_exception('One call at a time!') }}{% endif %}
{%- set call = m.tool_calls[0].function %}{{- head % 'assistant' }}{# begin #}
{{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}
{{- '}<|eot_id|>' }}{# end #}
{%- elif m.role == 'tool' %}{{- head % 'ipython' + m.content | tojson + '<|eot_id|>' }}
{%- elif m.role == 'assistant' %}{{- head % m.role }}{# begin #}{{- m.content + '<|eot_id|>' }}{# end #}
{%- else %}{{- head % m.role }}
{%- if loop.first %}{% for tool in tools or [] %}{{- tool | tojson(indent=4) + '\n' }}{% endfor %}{% endif %}
{{- m.content + '<|eot_id|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{- head % 'assistant' }}{% endif %}"""
# In the shape of DeepSeek R1's: arguments are a text, and calls are told where there is no content.
R1 = r"""{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}
{%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}
{%- elif m.role == 'assistant' and m.content is none %}{{ '<｜Assistant｜>' }}
{%- for call in m.tool_calls %}{{ call.function.name + '\n```json\n' + call.function.arguments + '\n```' }}
{%- endfor %}{{ '<｜end▁of▁sentence｜>' }}
{%- elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] }}
{{- '<｜end▁of▁sentence｜>' }}
{%- elif m.role == 'system' %}{{ m.content }}{% else %}{{ '<result>' + m.content + '</result>' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"""
KINDS = {"qwen": QWEN, "llama3": LLAMA, "deepseek": R1}


def marked(source: str) -> str:
    """The template with `generation` blocks."""
    return source.replace("{# begin #}", "{% generation %}").replace("{# end #}", "{% endgeneration %}")


def made(kind: str, source: str | None = None) -> Tokenizer:
    table, _, words = borrowed.parts(kind)
    return Tokenizer(table, foreign.layout_of(table, source or KINDS[kind], words))


def function(name: str, *arguments: str) -> dict:
    properties = {argument: {"type": "string"} for argument in arguments}
    told = {"name": name, "description": f"The {name}.", "parameters": {"properties": properties}}
    return {"type": "function", "function": told}


def calling(name: str, arguments: dict, id: str = "a") -> dict:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def as_objects(messages: list) -> list:
    """What transformers is to be given: arguments that are no text."""
    given = json.loads(json.dumps(messages))
    for call in (call["function"] for message in given for call in message.get("tool_calls") or ()):
        call["arguments"] = json.loads(call["arguments"])
    return given


WEATHER = function("weather", "city")
ROME = {"city": 'Röme "7"\n', "days": [3, 4.0], "wet": True, "of": {"from": None}}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Rain in Rome & Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [calling("weather", ROME)]},
    {"role": "tool", "tool_call_id": "a", "name": "weather", "content": 'sun "7"'},
    {"role": "assistant", "content": "", "tool_calls": [calling("weather", {"city": "Oslo"}, "b")]},
    {"role": "tool", "tool_call_id": "b", "content": "rain"},
    {"role": "assistant", "content": "Oslo, yes."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "Take a coat."},
]
ROW = {"messages": MESSAGES, "tools": [WEATHER]}
