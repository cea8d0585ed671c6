"""A model on other drawings of the problems and of small talk than its run was measured on.

    python -m benchmarks.drawings evening evening:distill --seeds 1 2

Per cent: problems greedily and at temperature 1, `TURNS` of each family as the first, second and fourth
question of a conversation, small talk in held-out wordings as the first turn and later, and the questions
that were written apart.  A model is named as `nomoat chat` names it; levels are those of recipes/cpu.toml.
"""

import argparse
import tomllib
from pathlib import Path

from nomoat.evals import talk
from nomoat.evals.problems import Answered, Candidate, mean_accuracy
from nomoat.rl.rollout import Exercise, exercises
from nomoat.serve.loading import load
from nomoat.stats import grouped, mean

RECIPE = Path(__file__).parents[1] / "recipes" / "cpu.toml"
PROBLEMS, SAMPLES, TURNS, QUESTIONS, LONGEST = 60, 4, 20, 200, 96


def measured(candidate: Candidate, seed: int) -> dict[str, float]:
    """Every score of one drawing."""
    recipe = tomllib.loads(RECIPE.read_text("utf-8"))
    levels = recipe["panels"]["judge"]
    n_problems = PROBLEMS * len(levels)
    asked = exercises(levels, n_problems, 1000 + seed, "eval")
    answered = candidate.both(None, asked, SAMPLES, seed)
    greedy = greedy_accuracy(answered)
    scores = {"greedy": greedy, "sampled": mean_accuracy(answered)}
    for what, questions in spoken(levels, asked, seed).items():
        groups = candidate.answers(None, questions, samples=1, seed=seed, greedy=True)
        scores[what] = mean(group[0].score.strict for group in groups)
    return scores


def greedy_accuracy(answered: list[Answered]) -> float:
    """The mean over families, as `mean_accuracy` of the sampled answers."""
    by_family = grouped((a.exercise.family, a.greedy.score.strict) for a in answered)
    return mean(mean(rights) for rights in by_family.values())


def spoken(levels: talk.Levels, asked: list[Exercise], seed: int) -> dict[str, list[Exercise]]:
    """Small talk, and the first problems in several turns."""
    talks = talk.questions(levels, QUESTIONS, seed)
    first = asked[: TURNS * len(levels)]
    turns = {f"turn {turn}": talk.at_turn(first, turn, levels, seed) for turn in talk.TURNS}
    return {f"talk, {how}": questions for how, questions in talks.items()} | turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    for name in args.models:
        loaded = load(name)
        candidate = Candidate(loaded.model, loaded.tokenizer, LONGEST)
        for seed in args.seeds:
            scores = measured(candidate, seed)
            print(name, seed, *(f"{what} {100 * score:.1f}" for what, score in scores.items()), sep=" | ")


if __name__ == "__main__":
    main()
