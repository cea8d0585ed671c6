"""How far does it carry?  The same problems before and after a stage of training, ring by ring, and one sentence."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

from nomoat import stats
from nomoat.config import DataError
from nomoat.engine import engine
from nomoat.evals import rings
from nomoat.evals.bits import bits_per_byte, held_out
from nomoat.evals.rings import Config, mean, suite_hash  # noqa: F401  (the names callers use)
from nomoat.files import shipped
from nomoat.parallel import mesh
from nomoat.report.receipt import money, receipt_of
from nomoat.report.table import Table
from nomoat.run.directory import Run
from nomoat.run.energy import Energy
from nomoat.run.ledger import duration, short
from nomoat.run.stop import Stop
from nomoat.stages.models import load_model, load_tokenizer, to_device
from nomoat.stages.pipeline import device_class
from nomoat.stages.recipe import Recipe
from nomoat.train.session import Session, Work, count

CARRIED = ("R1", "R2", "R3", "R4")
Result = dict[str, Any]


def measure(run: Run, config: Config, recipe: Recipe, stop: Stop | None = None) -> Result:
    """The answers of every model and what follows from them, as JSON data; the cost is logged as stage `transfer`.

    The run must be open for writing and locked.  Raises run.Interrupted between two rings if `stop` asks for it.
    """
    torch.set_num_threads(recipe.threads)
    ranks = mesh.start(recipe.device)
    try:
        energy = Energy(device_class(ranks.device), units=recipe.threads if ranks.device.type == "cpu" else 1)
        session = Session(run, "transfer", ranks, stop or Stop(), energy, recipe.save_seconds)
        sized, (items, notes) = config.sized(), rings.suite(config, recipe)
        tokenizer, held = load_tokenizer(run), held_out(sized.heldout_bytes)
        models, rows = {}, {r.stage: r for r in receipt_of(run).rows}
        for name in dict.fromkeys((config.before, config.after, *config.controls)):
            model = to_device(load_model(session, name), session, "fp32").eval()
            read = getattr(recipe.stage(name), "samples", None)  # what a model read is part of what it cost
            made = [name, *(read if isinstance(read, list) else ())]
            flops = sum(rows[stage].flops_executed for stage in made if stage in rows)
            models[name] = _one(session, sized, recipe, name, model, tokenizer, items, held) | {"flops": flops}
        row = rows.get(config.after)
        cost = row and {k: getattr(row, k) for k in ("flops_executed", "device_seconds", "joules", "money", "currency")}
        listed = [{k: getattr(i, k) for k in ("ring", "part", "family", "level", "up", "cluster")} for i in items]
        guessed = {"unseen families": rings.modal_share([i for i in items if i.ring == "R3"])}
        found = {"config": config.model_dump(), "suite": suite_hash(config, recipe, items), "seed": run.seed,
                 "commit": run.record.get("commit"), "samples": sized.samples, "notes": notes, "items": listed,
                 "models": models, "cost": cost, "guessed": guessed}  # fmt: skip
        return found | summary([found])
    finally:
        mesh.stop()


def _one(session, config, recipe, name, model, tokenizer, items, held) -> Result:
    stage = recipe.stage(config.after)
    tokens = config.max_new_tokens or getattr(stage, "max_new_tokens", 96) * 3 // 2
    how = {"max_new_tokens": tokens, "think": getattr(stage, "think", None)}
    main = name in (config.before, config.after)
    records: list[Result | None] = [None] * len(items)
    for ring in dict.fromkeys(item.ring for item in items):
        at = [i for i, item in enumerate(items) if item.ring == ring and (main or ring in rings.EVERYONE)]
        session.check_stop()
        if at:
            with Work(session, f"{ring} of {name}") as work:
                seed = int.from_bytes(f"{config.seed}/{ring}".encode()[:7], "big")
                asked = work, model, tokenizer, [items[i] for i in at]
                greedy = rings.answer(*asked, samples=1, greedy=True, seed=seed, **how)
                sampled = rings.answer(*asked, samples=config.samples, greedy=False, seed=seed, **how)
                for i, *drawn in zip(at, greedy, sampled):
                    records[i] = rings.record(items[i], tokenizer.layout, *drawn)
    cells = groupby((i for i in items if main and i.ring == "R0"), lambda i: (i.family, i.level))
    deep, counts = [item for _, cell in cells for item in list(cell)[: config.deep_problems]], []
    if deep:
        more = {"samples": config.deep_samples, "greedy": False, "seed": config.seed, **how}
        with Work(session, f"pass@{config.deep_samples} of {name}") as work:
            for group in rings.answer(work, model, tokenizer, deep, **more):
                marks = [m for _, m, _ in group if not m.undecided]
                counts.append([len(marks), sum(m.strict for m in marks)])
    with Work(session, f"open text of {name}") as work:
        bits = {lang: bits_per_byte(model, tokenizer, texts) for lang, texts in held.items()}
        every = [t for texts in zip(*held.values()) for t in texts]
        n_tokens = sum(len(ids) for texts in held.values() for ids in tokenizer.encode_batch(texts))
        count(work, model, n_tokens, model.spec.context / 2)
        layout = tokenizer.layout
        prompts = [[layout.bos_id, *ids[:16]] for ids in tokenizer.encode_batch([t[:400] for t in every])][: config.texts]
        drawn = engine.sample(
            model, prompts, max_new_tokens=64, seed=config.seed, stop_ids=layout.stop_ids, pad_id=layout.pad_id
        )
        count(work, model, sum(len(p) + len(s[0].ids_T) for p, s in zip(prompts, drawn)), 40)
        distinct, repeats = rings.diversity([s[0].ids_T.tolist() for s in drawn])
    return {"answers": records, "deep": counts, "bits": bits, "distinct": distinct, "repeats": repeats}


# --- what follows --------------------------------------------------------------------------------------------------


def combine(results: Sequence[Result]) -> Result:
    """Several training seeds in one: seeds are resampled first, then problems; `seeds` keeps what each says alone."""
    if len({r["suite"] for r in results}) != 1:
        raise DataError(f"{len(results)} results of {len({r['suite'] for r in results})} suites; expected one suite: "
                        "measure every run with the same settings and the same recipe")  # fmt: skip
    ours = ("config", "suite", "commit", "samples", "notes", "guessed")
    seeds = [{"seed": r["seed"], **summary([r])} for r in results]
    return {k: results[0][k] for k in ours} | {"seeds": seeds} | summary(results)


def summary(results: Sequence[Result]) -> Result:
    """Everything that the tables and the sentence say."""
    first = results[0]
    before, after = first["config"]["before"], first["config"]["after"]
    items, names = first["items"], list(first["models"])
    parts: dict[tuple[str, str], list[int]] = {}
    for i, item in enumerate(items):
        parts.setdefault((item["ring"], item["part"]), []).append(i)
    value = lambda r, model, i, key="rate": (r["models"][model]["answers"][i] or {}).get(key)
    average = lambda model, at, key="rate": mean([value(r, model, i, key) for r in results for i in at])
    trained = parts.get(("R0", "trained tasks"), [])
    pairs = lambda at, a=before, b=after, key="rate", key_a=None: [
        [(value(r, a, i, key_a or key), value(r, b, i, key)) for i in at] for r in results
    ]
    compare = lambda at, **how: difference(pairs(at, **how))
    gains = lambda at: [
        {items[i]["cluster"]: b - a for i, (a, b) in zip(at, seed) if None not in (a, b)} for seed in pairs(at)
    ]
    headline = compare(trained)
    out = []
    for (ring, part), at in parts.items():
        key = "gave" if ring == "R7" else "rate"
        carry = _carry(gains(at), gains(trained)) if ring in CARRIED and clear(headline) else None
        told, p = pairs(at, key="greedy")[0], None
        if len(results) == 1 and ring != "R7":  # pooling seeds would hide that they differ
            p = stats.mcnemar(told.count((1, 0)), told.count((0, 1)))
        out.append({"ring": ring, "part": part, "n": len(at), "before": average(before, at, key),
                    "after": average(after, at, key), **compare(at, key=key), "greedy": compare(at, key="greedy"), "p": p,
                    "carry": carry})  # fmt: skip
    tested = [row for row in out if row["p"] is not None]
    for row, p in zip(tested, stats.holm([row["p"] for row in tested])):
        row["p"] = p
    form = {key: [average(m, trained, key) for m in (before, after)]
            for key in ("rate", "lenient", "ended", "language", "length")}  # fmt: skip
    ladder = [(item["up"], i) for i, item in enumerate(items) if item["ring"] in ("R0", "R1")]
    level = lambda up: [i for at, i in ladder if at == up]
    steps = {up: [average(m, level(up)) for m in (before, after)] for up in sorted({at for at, _ in ladder})}
    blank = parts.get(("R7", "unanswerable"), [])
    honesty, texts = {}, {}
    for model in (before, after):
        sure = [p for seed in pairs(trained, model, model, "greedy", "confidence") for p in seed if None not in p]
        ece, brier = rings.calibration(sure)
        honesty[model] = {"ece": ece, "brier": brier, **{k: average(model, blank, k) for k in ("gave", "refuses")}}
    for model in names:
        of = [r["models"][model] for r in results]
        bits = {lang: mean([m["bits"][lang] for m in of]) for lang in of[0]["bits"]}
        ways = {k: mean([m[k] for m in of]) for k in ("distinct", "repeats")}
        texts[model] = {"bits": bits, "bpb": mean(list(bits.values())), **ways}
    votes = {"value": average(before, trained, "majority"), **compare(trained, b=before, key="majority", key_a="rate")}
    controls = [{"model": f"{before}, majority of {first['samples']}", "bpb": texts[before]["bpb"], "R0": votes}]
    by_ring = {ring: [i for i, item in enumerate(items) if item["ring"] == ring] for ring in rings.EVERYONE}
    for model in [n for n in names if n != before]:
        cells = {ring: {"value": average(model, at), **compare(at, b=model)} for ring, at in by_ring.items() if at}
        flops = mean([r["models"][model].get("flops") for r in results])
        controls.append({"model": model, "flops": flops, "bpb": texts[model]["bpb"], **cells})
    costs, price = [r["cost"] for r in results if r["cost"]], None
    if costs and clear(headline) and headline["delta"] > 0:
        a_point = lambda key: mean([c[key] for c in costs]) / (100 * headline["delta"])
        price = {k: v if k == "currency" else a_point(k) for k, v in costs[0].items()}
    return {"before": before, "after": after, "rings": out, "form": form, "steps": steps, "honesty": honesty, "texts": texts,
            "pass": _passes(results, before, after), "controls": controls, "price": price}  # fmt: skip


def difference(seeds: Sequence[Sequence[tuple[float | None, float | None]]]) -> Result:
    """The mean of after - before over pairs, each pair one problem, with its 95 % interval; None where nothing is."""
    gaps = [[b - a for a, b in pairs if a is not None and b is not None] for pairs in seeds]
    gaps = [g for g in gaps if g]
    if not gaps:
        return {"delta": None, "low": None, "high": None}
    delta = sum(sum(g) / len(g) for g in gaps) / len(gaps)
    low, high = stats.percentiles([d for (d,) in stats.resampled([[(x,) for x in g] for g in gaps])])
    if low == high:  # all alike: resampling would say that nothing is uncertain
        half = stats.wilson(0, sum(map(len, gaps)))[1]
        low, high = max(-1.0, delta - half), min(1.0, delta + half)
    return {"delta": delta, "low": low, "high": high}


def clear(row: Mapping[str, Any]) -> bool:
    """Whether the interval leaves out zero."""
    return row["delta"] is not None and (row["low"] > 0 or row["high"] < 0)


def _carry(far: Sequence[dict[str, float]], near: Sequence[dict[str, float]]) -> list[float] | None:
    """[gain far / gain near, low, high]; a problem that is in both, reworded, is drawn in both."""
    if not all(far) or not all(near) or all(len({*f.values()}) == 1 for f in far):  # all alike: no interval to be had
        return None
    near = [{c: n[c] for c in f} if set(f) <= set(n) else n for f, n in zip(far, near)]  # rewordings: like with like
    share = lambda pairs: [x / y for x, y in pairs if y]
    point = share([[mean([mean(list(r.values())) for r in side]) for side in (far, near)]])
    drawn = stats.resampled([[(f.get(c), n.get(c)) for c in sorted({*f, *n})] for f, n in zip(far, near)])
    return [*point, *stats.percentiles(share(drawn))]


def _passes(results: Sequence[Result], before: str, after: str) -> Result:
    """pass@k before and after for k = 1, 2, 4 …, and the k from which the one before is no worse."""
    most = min((n for r in results for m in (before, after) for n, _ in r["models"][m]["deep"]), default=0)
    found: dict[str, Any] = {}
    for k in (2**e for e in range(most.bit_length())):
        sides = [[[stats.pass_at_k(n, c, k) for n, c in r["models"][m]["deep"]] for m in (before, after)] for r in results]
        pairs = [list(zip(*side)) for side in sides]
        found[str(k)] = {"before": mean([a for p in pairs for a, _ in p]), "after": mean([b for p in pairs for _, b in p]),
                         "n": len(pairs[0]), **difference(pairs)}  # fmt: skip
    ks = {side: {int(k): row[side] for k, row in found.items()} for side in ("before", "after")}
    return {"at": found, "crossover": stats.crossover(ks["before"], ks["after"])}


# --- what is shown -------------------------------------------------------------------------------------------------

points = lambda x, sign="": "" if x is None else f"{100 * x:{sign}.1f}"
span = lambda row, scale=100: f"[{scale * row['low']:.1f}, {scale * row['high']:.1f}]"
number = lambda x: "" if x is None else f"{x:.3f}"


def gain(row: Mapping[str, Any]) -> str:
    """A difference in points with its interval."""
    return "" if row["delta"] is None else f"{points(row['delta'], '+')} {span(row)}"


def carried(carry: Sequence[float] | None) -> str:
    return "" if not carry else "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * x for x in carry))


def tables(result: Result) -> list[Table]:
    """Rings with each seed, harder levels, pass@k, form, honesty, open text, controls."""
    a, b, words, seeds = result["before"], result["after"], shipped(__file__), result.get("seeds", [])
    notes = words["notes"]
    p_of = lambda r: "" if r["p"] is None else "< 0.001" if r["p"] < 0.001 else f"{r['p']:.3f}"
    sides = lambda r: (points(r["before"]), points(r["after"]), gain(r))
    rows = tuple((f"{r['ring']} {r['part']}", str(r["n"]), *sides(r), carried(r["carry"]),
                  "" if r["ring"] == "R7" else gain(r["greedy"]), p_of(r), *(gain(s["rings"][i]) for s in seeds))
                 for i, r in enumerate(result["rings"]))  # fmt: skip
    note = notes["rings"].format(seeds=" and seeds" if seeds else "")
    if (guess := result["guessed"]["unseen families"]) is not None:
        note += notes["guess"].format(points(guess))
    header = ("ring", "problems", a, b, "difference", "carried", "greedy", "p", *(f"seed {s['seed']}" for s in seeds))
    found = [Table("How far does it carry?  Right answers, %", header, rows, note + "; ".join(result["notes"]))]
    rows = tuple((f"+{up}" if int(up) else "trained", points(x), points(y)) for up, (x, y) in result["steps"].items())
    found.append(Table("By levels above the trained ones, %", ("level", a, b), rows))
    rows = tuple((k, *sides(r)) for k, r in result["pass"]["at"].items())
    n = next((r["n"] for r in result["pass"]["at"].values()), 0)
    cross = result["pass"]["crossover"]
    note = f"{n} trained-task problems; " + (f"from k = {cross} on {a} is no worse." if cross else "the curves don't cross.")
    found.append(Table("Any of k samples right, %", ("k", a, b, "difference"), rows, note))
    both = lambda key: result["form"].get(key) or [result["honesty"][m][key] for m in (a, b)]
    shown = lambda x, row: "" if x is None else f"{row.get('scale', 100) * x:.{row.get('digits', 1)}f}"
    rows = tuple((row["label"], *(shown(x, row) for x in both(row["key"]))) for row in words["form"])
    found.append(Table("Form and honesty", ("", a, b), rows, notes["form"]))
    langs = list(result["texts"][a]["bits"])
    more = lambda t: (f"{t['bpb'] - result['texts'][a]['bpb']:+.3f}", points(t["distinct"]), points(t["repeats"]))
    rows = tuple((m, *(number(t["bits"][k]) for k in langs), *more(t)) for m, t in result["texts"].items())
    header = ("model", *(f"bits per byte, {k}" for k in langs), "change", "distinct-3, %", "repeated 4-grams, %")
    found.append(Table("Open text", header, rows, notes["texts"]))
    cell = lambda c: "" if not c else f"{points(c['value'])} ({gain(c)})"
    spent = lambda c: short(c["flops"]) if c.get("flops") else ""
    rows = tuple((c["model"], spent(c), *(cell(c.get(ring)) for ring in rings.EVERYONE), number(c["bpb"]))
                 for c in result["controls"])  # fmt: skip
    found.append(Table(f"Held against, in points over {a}", ("model", "FLOPs", "trained", "harder", "unseen", "bpb"), rows))
    if p := result["price"]:
        row = (short(p["flops_executed"], "FLOPs"), duration(p["device_seconds"]), short(p["joules"], "J"), money(p["money"]))
        found.append(Table("One point on the trained tasks cost", ("FLOPs", "device time", "energy", p["currency"]), (row,)))
    return found


def verdict(result: Result) -> str:
    """One sentence, made by a rule."""
    name = "RL" if result["after"] == "rl" else result["after"]
    by_part = {r["part"]: r for r in result["rings"] if r["delta"] is not None}
    head = by_part.get("trained tasks")
    if head is None:
        return f"Nothing was measured on the tasks that {name} trained on."
    if not clear(head):
        said = [f"{name} changed the trained tasks by {points(head['delta'], '+')} points {span(head)}, which includes 0"]
    else:
        how, size = ("raised", head) if head["delta"] > 0 else ("lowered", {"low": -head["high"], "high": -head["low"]})
        said = [f"{name} {how} the trained tasks by {points(abs(head['delta']))} points {span(size)}"]
    if head["greedy"]["delta"] is not None:
        said[0] += f" (greedy answers: {gain(head['greedy'])})"
    harder = "harder, never shown" if "harder, never shown" in by_part else "harder, shown worked"
    far = [harder, "German", "unseen families", *(r["part"] for r in result["rings"] if r["ring"] == "R4")]
    there = [(by_part[part], "harder levels" if part == harder else part) for part in far if part in by_part]
    if clear(head) and head["delta"] > 0:
        shares = [f"{carried(r['carry'])} to {words}" for r, words in there if r["carry"]]
        shares[:1] = [text.replace(" to ", " of that carried to ", 1) for text in shares[:1]]
    else:
        shares = [f"{w} changed by {gain(r)}" for r, w in there]
    said += [", ".join(shares)] if shares else []
    a, b = (result["texts"][m]["bpb"] for m in (result["before"], result["after"]))
    if a is not None and b is not None:
        how = "unchanged" if abs(b - a) < 5e-4 else f"{'worsened' if b > a else 'improved'} by {abs(b - a):.3f} bits per byte"
        said.append(f"prose {how}")
    if ks := [k for k in result["pass"]["at"] if int(k) <= 32]:
        row = result["pass"]["at"][ks[-1]]
        how = "not shown to differ (" if not clear(row) else "rose (" if row["delta"] > 0 else "fell ("
        said.append(f"pass@{ks[-1]} {how}{gain(row)})")
    return "; ".join(said) + "."
