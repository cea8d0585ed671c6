"""How long an answer took, and what it drew."""

from nomoat.config import JsonObject
from nomoat.run.ledger import read_prices
from nomoat.serve.asked import Usage


def timings_of(usage: Usage) -> JsonObject:
    """Under the names of llama.cpp's server, which pages and tools read; joules and money are not in its."""
    seconds = max(usage.seconds - usage.first_token_seconds, 1e-9)
    prices = read_prices()
    drafts = {"draft_n": usage.n_drafts, "draft_n_accepted": usage.n_accepted} if usage.n_drafts else {}
    return {
        "prompt_n": usage.prompt_tokens - usage.cached_tokens,
        "prompt_ms": round(1e3 * usage.first_token_seconds, 3),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": round(1e3 * seconds, 3),
        "predicted_per_second": round(max(usage.completion_tokens - 1, 0) / seconds, 3),
        **drafts,
        "joules": usage.joules,
        "joules_source": usage.joules_source,
        "money": prices.money(prices.device("cpu"), usage.joules, 0.0),
        "currency": prices.currency,
    }
