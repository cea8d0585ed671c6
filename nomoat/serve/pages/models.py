"""The models that can be talked to, with what it took to make each and how well it does."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nomoat.config import JsonObject, UserError
from nomoat.model import counts
from nomoat.model.spec import Routed, Spec
from nomoat.report.panel import panel_of
from nomoat.report.receipt import kinds_of
from nomoat.report.standing import standings
from nomoat.run.directory import Run
from nomoat.serve.loading import is_gguf, panel_in
from nomoat.serve.shelf import Entry
from nomoat.tokenizer.bpe import Tokenizer
from nomoat.weights import directory, known, shelf
from nomoat.weights.gguf import load as gguf
from nomoat.weights.gguf.header import Header
from nomoat.weights.gguf.vocabulary import tokenizer_of

MEASURED = ("cost", "cost_total", "scores", "score_of")
FIELDS = (
    *("run", "stage", "kind", "label", "place", "parameters", "active", "context", "thinks", "loaded"),
    *("panel", "experts", *MEASURED),
)


@dataclass(slots=True)
class Models:
    """What is read from headers is kept; a run's log is read again when it has grown."""

    headers: dict[str, JsonObject] = field(default_factory=dict)
    logs: dict[Path, tuple[int, dict[str, JsonObject]]] = field(default_factory=dict)

    def all(self, entries: Iterable[Entry]) -> JsonObject:
        """The default first, then each run's models in the order of its stages; each stage once."""
        once: dict[object, JsonObject] = {}
        for each in map(self.one, entries):
            once.setdefault((each["run"], each["stage"] or each["id"]), each)
        first, *others = once.values()
        runs = [first["run"], *(each["run"] for each in others)]

        def place(each: JsonObject) -> tuple[int, int]:
            return runs.index(each["run"]), each["place"] or 0

        return {"models": [first, *sorted(others, key=place)]}

    def one(self, entry: Entry) -> JsonObject:
        """All that is known of an entry, None where nothing is; `place` is its stage's in the order of the
        run; `error` where its files can't be read.
        """
        blank = {"id": entry.name, **dict.fromkeys(FIELDS)}
        told = blank | {"label": entry.name, "loaded": entry.served is not None, "thinks": False}
        try:
            return told | self.header(entry) | self.origin(entry)
        except UserError as error:
            return told | {"error": str(error)}

    def header(self, entry: Entry) -> JsonObject:
        if not known.at_hand(entry.source):
            return {}
        if entry.name not in self.headers:
            self.headers[entry.name] = header_of(entry)
        return self.headers[entry.name]

    def origin(self, entry: Entry) -> JsonObject:
        """Which run made it, and what is known from there."""
        if not Path(entry.source).exists() and (ships := shelf.named(entry.source)) is not None:
            return of_shelf(ships)
        if not known.at_hand(entry.source):
            return {}
        root = known.locate(entry.source)
        return self.of_run(entry, root) if (root / "recipe.json").is_file() else {}

    def of_run(self, entry: Entry, root: Path) -> JsonObject:
        run, stage = Run.open(root), entry.stage
        n_bytes = run.lines.path.stat().st_size
        if self.logs.get(root, (-1, {}))[0] != n_bytes:
            self.logs[root] = n_bytes, standings(run, [*run.all_weights()])
        panel = panel_of(run, stage)
        return {
            "run": entry.name.removesuffix(f":{stage}"),
            "stage": stage,
            "kind": kinds_of(run).get(stage),
            "label": stage,
            "place": [*run.all_weights()].index(stage),
            "panel": panel and panel.to_json(),
            **self.logs[root][1].get(stage, {}),
        }


def of_shelf(ships: shelf.Shelved) -> JsonObject:
    stages = [one.stage for one in sorted(shelf.shelved(), key=order) if one.model == ships.model]
    panel = panel_in(ships.path)
    return {
        "run": ships.model,
        "stage": ships.stage,
        "kind": ships.facts.get("kind", ships.stage),
        "label": ships.facts.get("what", ships.stage),
        "place": stages.index(ships.stage),
        "panel": panel and panel.to_json(),
        **{name: ships.facts.get(name) for name in MEASURED},
    }


def order(one: shelf.Shelved) -> int:
    return one.facts.get("place", 0)


def header_of(entry: Entry) -> JsonObject:
    """What files say without their weights; of a model that is loaded, itself."""
    if entry.served is not None:
        spec, tokenizer = entry.served.engine.model.spec, entry.served.tokenizer
    else:
        spec, tokenizer = headers(entry)
    spec = spec.changed(n_mtp=0)
    return {
        "parameters": counts.params_total(spec),
        "active": counts.params_active(spec),
        "context": spec.context,
        "thinks": tokenizer.layout.think_id is not None,
        "experts": experts_of(spec),
    }


def headers(entry: Entry) -> tuple[Spec, Tokenizer]:
    root = known.locate(entry.source)
    if is_gguf(root):
        header = Header.of(root)
        return gguf.spec_of(header), tokenizer_of(header)
    place = tokens = root
    if (root / "recipe.json").is_file():
        left = Run.open(root).weights(entry.stage)
        place, tokens = left.path, left.tokenizer.path
    _, _, spec = directory.opened(place)
    return spec, Tokenizer.load(tokens)


def experts_of(spec: Spec) -> JsonObject | None:
    """How many routed layers there are, of how many experts, and how many of these fire a token."""
    ffn = spec.ffn
    if not isinstance(ffn, Routed):
        return None
    n_layers = spec.n_layers - ffn.n_dense_layers
    return {"n_layers": n_layers, "n_routed": ffn.n_routed, "n_active": ffn.n_active}
