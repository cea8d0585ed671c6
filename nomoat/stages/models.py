"""What several stages do with weights and tokenizers."""

import torch

from nomoat.config import DataError, parse
from nomoat.files import new_directory
from nomoat.model import counts
from nomoat.model.lora import adapted
from nomoat.model.spec import Routed, Spec
from nomoat.model.transformer import Transformer
from nomoat.parallel.process import fast_bf16
from nomoat.run.directory import Run
from nomoat.run.left import StageWeights
from nomoat.stages import inputs
from nomoat.stages.recipe import Fields
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.train.optim import Optimizer
from nomoat.train.session import Session, Work
from nomoat.train.whole import Blockwise, Whole, in_one_piece
from nomoat.weights import adapters, peft
from nomoat.weights import directory as weights
from nomoat.weights.directory import Stored

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SLOW_BF16 = "this processor multiplies bf16 in software: float32 instead"


def load_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that this run's tokenizer stage left."""
    files = run.tokenizer()
    return Tokenizer.load(files.path, files.fingerprint)


def load_model(session: Session, source: str | None, spec: Spec | None = None) -> Transformer:
    """The weights that stage `source` left, whole, float32, in the shape of `spec` (by default the spec that
    they had).  WeightsError for files that have changed since."""
    left = _as_left(session, source)
    return weights.load(left.path, session.kernels, spec=spec or spec_of(session, source)).train()


def stored(session: Session, source: str | None, spec: Spec | None = None) -> Stored:
    """The same, of which each rank is to read what it holds."""
    left = _as_left(session, source)
    return Stored(left.path, session.kernels, spec=spec or spec_of(session, source))


def _as_left(session: Session, source: str | None) -> StageWeights:
    """What stage `source` left, unchanged, as rank 0 sees it; the log says that it is read."""
    left = _weights_of(session, source)
    session.mesh.lead(left.check)
    if left.sha256 is not None:
        inputs.log(session, "weights", source, left.sha256)
    return left


def spec_of(session: Session, source: str | None) -> Spec:
    """The shape of the model that stage `source` left, and how this project multiplies it."""
    return parse(Spec, _weights_of(session, source).spec, f"{source}.spec")


def new_spec(session: Session, spec: Spec, tokenizer: Tokenizer) -> Spec:
    """The shape of a new model, with as many ids as the tokenizer has: one without a token could be sampled.
    """
    if spec.vocab_size == tokenizer.vocab_size:
        return spec
    text = f"the text gave {tokenizer.vocab_size} of {spec.vocab_size} tokens, and so many the model has"
    if all(event["text"] != text for event in session.run.events("note", session.stage)):
        session.log("note", text=text)
    return spec.changed(vocab_size=tokenizer.vocab_size)


def _weights_of(session: Session, source: str | None) -> StageWeights:
    """What stage `source` left for the stage of the session."""
    if source is None:
        raise DataError(
            f"stage {session.stage} starts from weights, but no stage before it leaves any; set its `from`"
        )
    left = session.run.all_weights()
    if source not in left:
        raise DataError(
            f"stage {session.stage} starts from the weights of {source}, which has not finished; "
            f"run {source} first"
        )
    return left[source]


def _merged(session: Session, model: Transformer, source: str | None) -> Transformer:
    """What stage `source` left, float32, with the adapters of the model merged in; they are saved beside."""
    pairs = adapters.of_model(model)
    base = load_model(session, source, model.spec)
    parts = adapters.ours(adapters.places(base), pairs)
    gap = adapters.merged(base, parts)
    session.log("note", text=f"merged {len(pairs)} matrices, logits as beside the base within {gap:.1g}")
    made_for = session.run.all_weights()[source].path.resolve()
    routed = isinstance(model.spec.ffn, Routed)
    place = session.run.root / session.stage / "adapter"
    with new_directory(place) as directory:
        peft.save(directory, pairs, str(made_for), routed=routed)
    return base


def to_device(model: Transformer, session: Session, precision: str) -> Transformer:
    """Parameters in the stage's precision, float32 where bf16 is slow; routing biases stay float32."""
    dtype = dtype_of(session, precision)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(session.mesh.device, dtype)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module.register_buffer(name, buffer.to(session.mesh.device))
    return model


def dtype_of(session: Session, precision: str) -> torch.dtype:
    """What a stage computes in, and the log says where that is another than the recipe says."""
    dtype = quick_dtype(precision, session.mesh.device)
    if dtype != DTYPES[precision]:
        if all(event["text"] != SLOW_BF16 for event in session.run.events("note")):
            session.log("note", text=SLOW_BF16)
    return dtype


def quick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of a precision: float32 where bf16 is slow."""
    dtype = DTYPES[precision]
    return dtype if dtype == torch.float32 or fast_bf16(device) else torch.float32


def save_model(
    session: Session,
    model: Transformer,
    optimizer: Optimizer,
    tokenizer: Tokenizer,
    source: str | None = None,
) -> Fields:
    """RUN/<stage>/model, a Hugging Face directory with the float32 master weights; gives the stage's outputs.

    Of adapters: RUN/<stage>/adapter in PEFT's layout, and the weights of `source` with them merged in.
    """
    relative = f"{session.stage}/model"
    learns = bool(next(adapted(model), None) or (optimizer.pipeline and optimizer.pipeline.adapters))
    is_parted = session.mesh.dense is not None or optimizer.pipeline is not None
    with Work(session, "save weights"), torch.no_grad():
        value = None
        if is_parted and not learns:
            whole = Whole(model, optimizer)
            model, value = whole.plain(), Blockwise(whole)
        elif is_parted:
            model = in_one_piece(model, optimizer, kept=session.leads)
        elif session.leads:
            for name in optimizer.master:
                model.get_parameter(name).data = optimizer.master[name].clone()
        if session.leads:
            if learns:
                model = _merged(session, model, source)
            with new_directory(session.run.root / relative) as directory:
                weights.save(model, directory, tokenizer=tokenizer, value=value)
        elif value:
            for name in weights.asked(model, tokenizer):
                value(name)
    session.mesh.barrier()
    return {
        **({"adapter": f"{session.stage}/adapter"} if learns else {}),
        "model": relative,
        "sha256": inputs.sha256(session.run.root / relative) if session.leads else None,
        "spec": model.spec.model_dump(),
        "parameters": counts.params_total(model.spec),
        "active": counts.params_active(model.spec),
    }
