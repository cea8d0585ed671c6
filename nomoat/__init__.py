"""nomoat: a reasoning chatbot the way DeepSeek built it, at any budget.

`nomoat.load(run_or_directory)` gives model, tokenizer and chat template together.
"""

__version__ = "0.1.0"


def load(directory, *, stage=None):
    """Model, tokenizer and chat template of a run directory (its newest weights) or an exported directory.

    Returns `weights.hf.Loaded(model, tokenizer, template)`; `stage` picks the weights that one stage of a run left.
    Raises DataError for a directory that is neither.
    """
    from nomoat.weights.hf import load_any

    return load_any(directory, stage=stage)
