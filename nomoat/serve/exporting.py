"""A model that was loaded leaves as files of others' software, with a card that says what it is."""

from pathlib import Path

from nomoat.config import DataError
from nomoat.files import new_directory, write_whole
from nomoat.model import counts
from nomoat.model.lora import Pair
from nomoat.report import card
from nomoat.run.directory import Run
from nomoat.serve.loading import CARD, Loaded
from nomoat.weights import adapters, export, peft
from nomoat.weights.gguf.save import save


def directory(loaded: Loaded, out: Path, type: str) -> list[Path]:
    """A Hugging Face directory, read back and compared; `type` is f32, bf16, f16 or fp8, which is DeepSeek's
    layout and keeps the extra depths.
    """
    if out.suffix == ".gguf":
        raise DataError(f"{out} is to be a directory; expected another ending, or --to gguf; choose one")
    model = loaded.model if type == "fp8" else export.without_depths(loaded.model)
    panel = loaded.panel and loaded.panel.to_json()
    beside = {"tokenizer": loaded.tokenizer, "card": card_of(loaded), "panel": panel}
    export.to_directory(model, out, **beside, type=type)
    return [out]


def adapter(run: Run, stage: str | None, out: Path) -> list[Path]:
    """What the stages of a run learnt beside the weights of its base, as one adapter in PEFT's layout.

    The adapters of stages behind each other are summed: their ranks side by side.  DataError where the stage
    learnt with all weights.
    """
    ends = {name: end["outputs"] for name in run.all_weights() if (end := run.finished(name))}
    stage = run.weights(stage).stage
    sources = {entry["name"]: entry.get("from") for entry in run.recipe["stages"]}
    pairs: dict[str, Pair] = {}
    name: str | None = stage
    while name is not None and "adapter" in ends[name]:
        pairs = adapters.summed(peft.opened(run.root / ends[name]["adapter"]).pairs(), pairs)
        name = sources[name]
    if name is None or name == stage:
        with_one = [other for other, left in ends.items() if "adapter" in left]
        raise DataError(
            f"{run.root}: stage {stage} learnt with all its weights, so that there is no adapter; expected a "
            f"stage with `lora`, {', '.join(with_one) or 'of which this run has none'}; or use --to hf"
        )
    export.vacant(out)
    base = run.all_weights()[name]
    routed = base.spec["ffn"]["kind"] == "routed"
    with new_directory(out) as directory:
        peft.save(directory, pairs, str(base.path.resolve()), routed=routed)
        size = f"{sum(map(len_of, pairs.values())):,} parameters beside its base"
        write_whole(directory / CARD, card.of_run(run, stage, size, card.PEFT))
    return [out]


def len_of(pair: Pair) -> int:
    return pair.down.numel() + pair.up.numel()


def gguf(loaded: Loaded, out: Path, type: str) -> list[Path]:
    """A GGUF file, read back and compared; beside it its card, and a Modelfile that was never tried in
    Ollama.
    """
    if out.suffix != ".gguf":
        raise DataError(f"{out} has another ending; expected FILE.gguf, as readers look for it; add it")
    modelfile = out.with_name(f"{out.name}.Modelfile")
    readme = out.with_name(f"{out.name}.{CARD}")
    for path in (out, modelfile, readme):
        if path.exists():
            raise DataError(f"{path} is there already; expected a new file; choose another --out")
    export.vacant(out)
    meta = {"general.name": loaded.origin.name}
    if loaded.origin.licence:
        meta["general.license"] = loaded.origin.licence
    taught = loaded.panel.to_json() if loaded.panel else {}
    meta |= {f"nomoat.{name}": [*texts] for name, texts in taught.items() if texts}
    written = save(loaded.model, out, tokenizer=loaded.tokenizer, type=type, meta=meta)
    write_whole(readme, card_of(loaded, card.LLAMACPP))
    return [written.path, modelfile, readme]


def card_of(loaded: Loaded, library: str = card.TRANSFORMERS) -> str:
    """From the receipts of a run, or from what the files said; `library`: what opens the files."""
    size = counts.size(loaded.model.spec)
    if loaded.run is not None:
        return card.of_run(Run.open(loaded.run), loaded.origin.name, size, library)
    return card.of_origin(loaded.origin, size, library)
