"""The Modelfile beside a GGUF file: `ollama create NAME -f FILE.Modelfile`.

Ollama has templates of its own, in Go; those of well-known Jinja templates it finds in the file itself, ours
is spelled here.  Nothing here was run in Ollama.
"""

from pathlib import Path

from nomoat.files import write_whole
from nomoat.tokenizer.layout import NOMOAT, Layout

TEMPLATE = (
    "{{- range .Messages }}"
    '{{- if eq .Role "assistant" }}<|assistant|>{{ .Content }}<|eos|>'
    "{{- else }}<|{{ .Role }}|>{{ .Content }}{{ end }}"
    "{{- end }}<|assistant|>"
)


def write(path: Path, layout: Layout) -> Path:
    """PATH.Modelfile, which names the file beside it."""
    texts = {id: text for text, id in layout.specials.items()}
    lines = [f"FROM ./{path.name}"]
    if layout == NOMOAT:
        lines.append(f'TEMPLATE """{TEMPLATE}"""')
    lines += [f'PARAMETER stop "{texts[id]}"' for id in layout.stop_ids if id in texts]
    beside = path.with_name(f"{path.name}.Modelfile")
    write_whole(beside, "\n".join(lines) + "\n")
    return beside
