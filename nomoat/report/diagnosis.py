"""Is it learning?  Rules that read the curve of a stage and say what it means.

A limit is where a sentence begins to be worth a look: a rule of thumb.  What is drawn follows the news: a
level that is solved comes seldom, so that the reward as drawn may stand still while the policy improves.  The
rules therefore weigh all families alike.  Their intervals count problems, not rollouts.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Literal

from nomoat import stats
from nomoat.files import visible
from nomoat.report.curve import ROWS, Steps, by_name, tenths
from nomoat.report.scores import Scores, scores_of
from nomoat.run.directory import Run

Facts = Mapping[str, object] | None  # what a sentence names; None where the rule is silent
SIGNS = {"bad": "✗", "look": "!", "good": "✓"}


@dataclass(frozen=True)
class Finding:
    """A sentence in plain words, the setting that it leads to, and how much it matters.

    severity: "bad" stops the learning or fakes it, "look" deserves a look, "good" is what one hopes for.
    `rule` and its `facts` say the same to whoever has other words for it.
    """

    sentence: str
    setting: str
    severity: Literal["bad", "look", "good"]
    rule: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.0%}–{self.high:.0%})"


ROUNDED = {"fp32": 1e-4, "bf16": 1.0}  # nats of a token, at most, that sampler and trainer differ by


@dataclass(frozen=True)
class Course:
    """The steps of a stage, its first and its last tenth, and the right answers there.

    `group` rollouts are one problem.  trend: 1 where right answers rose, -1 where they fell, 0 where that may
    be chance, None where the steps are too few to tell.
    """

    steps: Steps
    group: int
    start: Steps
    end: Steps
    right: Mapping[str, Share]
    trend: int | None
    drift: float  # what rounding alone makes of log p, in the precision of the gradient


@dataclass(frozen=True)
class Rule:
    """When something is said, what, how much it matters, and the setting that it leads to."""

    name: str
    severity: Literal["bad", "look", "good"]
    setting: str
    sentence: str
    facts: Callable[[Course], Facts]

    def finding(self, course: Course) -> Finding | None:
        facts = self.facts(course)
        if facts is None:
            return None
        said = {}
        for _, name, form, _ in Formatter().parse(self.sentence):
            if name:
                said[name] = _spaced(format(facts[name], form))
        sentence = _spaced(self.sentence.format(**facts))
        return Finding(sentence, self.setting, self.severity, self.name, said)


def _spaced(text: str) -> str:
    return re.sub(r"(\d)%", r"\1 %", text)


def diagnose(curve: Steps, config: Mapping[str, Any] | None = None) -> list[Finding]:
    """What the rules say of a stage with these settings, the worst first."""
    course = course_of(curve, config or {})
    findings = [finding for rule in RULES if (finding := rule.finding(course))]
    return sorted(findings, key=lambda finding: list(SIGNS).index(finding.severity))


def findings_of(run: Run, stage: str) -> list[Finding]:
    """What the rules say of a stage of a run, and what its evaluation says beside a constant answer."""
    started = run.events("stage_start", stage)
    config = (started[-1].get("config") if started else None) or {}
    taught = config.get("tasks", ())
    return [*no_better(stage, taught, scores_of(run.events())), *diagnose(run.curve(stage), config)]


def course_of(curve: Steps, config: Mapping[str, Any]) -> Course:
    group, precision = config.get("group") or 1, config.get("precision") or "fp32"
    start, _, end = tenths(curve)
    was, now = compared(start, end, group)
    trend = moved(was, now) if len(curve) >= 20 else None
    return Course(curve, group, start, end, {"was": was, "now": now}, trend, ROUNDED[precision])


def value(steps: Steps, key: str) -> float:
    """A row of the screen over some steps; 0 where nothing is known."""
    return ROWS[key].value(steps) or 0.0


def compared(before: Steps, after: Steps, group: int) -> tuple[Share, Share]:
    """Right answers in both, the families that both have weighed alike."""
    return interval(before, group, after), interval(after, group, before)


def interval(steps: Steps, group: int, like: Steps) -> Share:
    """Right answers, the families that `like` has too weighed alike.

    Wilson with the number of problems that such a mean is worth, a family's share of them being its share of
    the steps.
    """
    drawn = sum(e["tokens"] / e["length"] / group for e in steps if e.get("length") and e.get("tokens"))
    n = drawn or len(steps)
    both = by_name("rewards", like)
    families = [v for name, v in by_name("rewards", steps).items() if v and name in both]
    if families:
        share = stats.mean(map(stats.mean, families))
        n *= len(families) ** 2 / sum(map(len, families)) / sum(1 / len(v) for v in families)
    else:
        share = value(steps, "reward")
    return Share(share, *stats.wilson(share * n, n))


def moved(before: Share, after: Share) -> int:
    """1 up, -1 down, 0 where the interval of the difference has both."""
    low, high = stats.difference(before, after)
    if low > 0:
        return 1
    return -1 if high < 0 else 0


# --- the rules ------------------------------------------------------------------------------------


def above(limit: float, key: str, steps: Steps) -> Facts:
    x = value(steps, key)
    return {"x": x} if x > limit else None


def dead_groups(course: Course, kind: str) -> Facts:
    """All right or all wrong, as the reward tells if the other groups are right half of the time."""
    dead = value(course.end, "dead_groups")
    right = min(max(value(course.end, "reward") - (1 - dead) / 2, 0.0), dead)
    found = "hard" if dead > 3 * right else "easy" if dead < 1.5 * right else "split"
    return {"x": dead} if dead >= 0.6 and found == kind else None


def flat(course: Course) -> Facts:
    n, steps = len(course.steps), course.steps
    third, last = compared(steps[n // 2 : n - n // 4], steps[n - n // 4 :], course.group)
    silent = course.trend not in (0, 1) or last.value >= 0.95 or moved(third, last) > 0
    return None if silent else {"third": third, "last": last}


def entropy(course: Course) -> Facts:
    start, end = value(course.start, "entropy"), value(course.end, "entropy")
    return {"x": end / start, "start": start, "end": end} if end < 0.3 * start else None


def length(course: Course) -> Facts:
    start, end = value(course.start, "length"), value(course.end, "length")
    grew = course.trend in (0, -1) and 0 < start < end / 1.3
    return {"start": start, "end": end} if grew else None


def form(course: Course) -> Facts:
    x = value(course.end, "lenient") - value(course.end, "reward")
    return {"x": x} if x > 0.15 else None


def drift(course: Course) -> Facts:
    """Rounding alone passes the limit now and then; often, or by far, is another matter."""
    limit, n, x = course.drift, len(course.steps), value(course.steps, "drift")
    often = sum((e.get("drift") or 0.0) > limit for e in course.steps)
    return {"limit": limit, "n": often, "of": n, "x": x} if often > n / 20 or x > 100 * limit else None


def constant(course: Course) -> Facts:
    """One answer to nearly all questions, which for many of them is wrong."""
    x, right = value(course.end, "common"), value(course.end, "common_right")
    return {"x": x, "right": right} if x > 0.8 and right < 0.8 else None


NO_BETTER = (
    "Held out, {greedy} % of {family} are right, and one constant answer would be for {always} %: "
    "beyond chance it has learned nothing there; ask for answers that differ, or train for longer."
)


def no_better(model: str, taught: Collection[str], scored: Scores) -> Iterator[Finding]:
    """Taught families in which held-out answers are no better than the most frequent right one, always given.
    """
    found = scored.accuracy.get("greedy", {}).get(model, {})
    for family in taught:
        greedy = found.get(family)
        always = scored.constant.get(family)
        if greedy and always and greedy.low <= always.value:
            constant = f"{100 * always.value:.0f}"
            said = {"family": visible(family), "greedy": str(greedy), "always": constant}
            yield Finding(NO_BETTER.format(**said), "tasks, steps", "bad", "no_better", said)


RULES = (
    Rule(
        "hard",
        "bad",
        "tasks, group",
        "{x:.0%} of the groups teach nothing, nearly all of them because every answer is wrong: "
        "the tasks are too hard; choose lower levels (tasks) or more rollouts (group).",
        lambda course: dead_groups(course, "hard"),
    ),
    Rule(
        "easy",
        "bad",
        "tasks",
        "{x:.0%} of the groups teach nothing, nearly all of them because every answer is right: "
        "raise the levels (tasks).",
        lambda course: dead_groups(course, "easy"),
    ),
    Rule(
        "split",
        "bad",
        "tasks",
        "{x:.0%} of the groups teach nothing, some all right and some all wrong: "
        "leave out the levels (tasks) that never or no longer vary.",
        lambda course: dead_groups(course, "split"),
    ),
    Rule(
        "constant",
        "bad",
        "tasks",
        "{x:.0%} of the answers are one and the same, which is right for {right:.0%} of the questions: it "
        "has learned to say that, and nothing of the task; ask for answers that differ (tasks).",
        constant,
    ),
    Rule(
        "few",
        "look",
        "steps",
        "{n} steps so far: too few to tell whether it learns.",
        lambda course: {"n": len(course.steps)} if course.trend is None else None,
    ),
    Rule(
        "rose",
        "good",
        "",
        "Right answers rose from {was} to {now}, families weighed alike.",
        lambda course: course.right if course.trend == 1 else None,
    ),
    Rule(
        "fell",
        "bad",
        "optim.adam_lr",
        "Right answers fell from {was} to {now}, families weighed alike: lower optim.adam_lr.",
        lambda course: course.right if course.trend == -1 else None,
    ),
    Rule(
        "flat",
        "look",
        "steps, optim.adam_lr",
        "No rise beyond chance in the last half, {third} and then {last}: "
        "more steps (steps), or another optim.adam_lr.",
        flat,
    ),
    Rule(
        "entropy",
        "bad",
        "optim.adam_lr, kl",
        "Entropy fell to {x:.0%} of its start, from {start:.3f} to {end:.3f} nats: "
        "it tries little that is new; lower optim.adam_lr or raise kl.",
        entropy,
    ),
    Rule(
        "length",
        "look",
        "variant, max_new_tokens",
        "Answers grew from {start:.0f} to {end:.0f} tokens and are not right more often: "
        'choose a variant that pays nothing for length (variant = "dr-grpo"), or lower max_new_tokens.',
        length,
    ),
    Rule(
        "truncated",
        "bad",
        "max_new_tokens",
        "{x:.0%} of the answers are cut off, which makes them wrong: raise max_new_tokens.",
        lambda course: above(0.1, "truncated", course.end),
    ),
    Rule(
        "doubted",
        "bad",
        "tasks",
        "{x:.1%} of the right answers also pass for another problem, so it may have found a trick: "
        "look at the rollouts, `nomoat rollouts RUN --only doubted`.",
        lambda course: above(0.01, "shadow", course.end),
    ),
    Rule(
        "kl",
        "look",
        "kl, optim.adam_lr",
        "The policy is {x:.2f} nats a token from its start: raise kl or lower optim.adam_lr.",
        lambda course: above(0.5, "kl", course.steps[len(course.steps) // 2 :]),
    ),
    Rule(
        "undecided",
        "look",
        "sandbox",
        "{x:.0f} answers could not be judged and were left out: see `nomoat doctor`.",
        lambda course: above(0, "undecided", course.steps),
    ),
    Rule(
        "form",
        "bad",
        "from, rewards.format",
        "{x:.0%} of the answers are right, but not in the form that was asked for: "
        "start from SFT (from), or watch the form (rewards.format).",
        form,
    ),
    Rule(
        "drift",
        "look",
        "precision",
        "Sampler and trainer disagree by more than {limit:g} in {n} of {of} steps, by {x:.2g} at most: "
        "compute the gradient in fp32 (precision).",
        drift,
    ),
)
