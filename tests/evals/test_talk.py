"""What counts as talking: accepted answers, held-out words, the same problems in later turns."""

import itertools

import pytest

from nomoat.data.conversation import LANGS, accepted, fold, topics, wordings
from nomoat.evals import talk
from nomoat.files import shipped
from nomoat.rl.rollout import exercises
from nomoat.tasks.verdicts import Verdicts

LEVELS = {"addition": [2], "sorting": [3]}


def test_every_answer_is_accepted_for_its_topic_and_no_other_language():
    for name, topic in topics().items():
        for answer in topic.answers:
            for lang, other in (LANGS, LANGS[::-1]):
                assert accepted(name, lang, answer[lang])
                assert accepted(name, lang, answer[lang].lower())
                assert not accepted(name, lang, answer[other])


@pytest.mark.parametrize(
    ("name", "lang", "reply", "sensible"),
    [
        ("who are you", "en", "I am nomoat, a small program.", True),
        ("who are you", "en", "My name is nomoat!", True),
        ("who are you", "en", "1", False),
        ("who are you", "en", "a+1 m a-1", False),
        ("who are you", "en", "Thank you! Shall we try a harder one?", False),
        ("thanks", "de", "Gern geschehen!", True),
        ("thanks", "de", "Danke! Wollen wir etwas Schwereres versuchen?", False),
        ("facts", "en", "That I do not know.", True),
        ("facts", "en", "Paris.", False),
        ("facts", "en", "I don't know facts " * 20 + ".", False),
        ("goodbye", "de", "Tschüss", False),  # unfinished
        ("goodbye", "de", "Tschüss!", True),
    ],
)
def test_what_is_sensible(name, lang, reply, sensible):
    assert accepted(name, lang, reply) is sensible


def test_questions_are_held_out_in_both_places():
    asked = talk.questions(LEVELS, 60, 1)
    held = {
        fold(w)
        for t in topics().values()
        for x in LANGS
        for w in wordings(t.asked[x], "heldout")
    }
    trained = {
        fold(w) for t in topics().values() for x in LANGS for w in wordings(t.asked[x], "train")
    }
    for how in (talk.FIRST, talk.LATER):
        last = [fold(e.problem.prompt) for e in asked[how]]
        assert not set(last) & trained
        assert sum(text in held for text in last) > 45  # the others stand behind a greeting
    assert all(not e.before for e in asked[talk.FIRST] + asked[talk.FREE])
    assert all(e.before for e in asked[talk.LATER])
    assert {fold(e.problem.prompt) for e in asked[talk.FREE]}.isdisjoint(trained | held)


def test_each_free_question_has_topics_and_its_own_answer_passes():
    for probe in shipped(talk.__file__)["probe"]:
        assert probe["topics"]
        assert set(probe["topics"]) <= set(topics())
    with Verdicts() as verdicts:
        for how in talk.questions(LEVELS, 20, 0).values():
            for e in how:
                assert verdicts.verdict(e.task, e.problem, e.problem.witness, True).strict
                assert not verdicts.verdict(
                    e.task, e.problem, "<think>1</think>17", True
                ).strict


def test_the_same_problems_stand_in_later_turns():
    first = exercises(LEVELS, 6, 0, "eval")
    for turn in talk.TURNS:
        moved = talk.at_turn(first, turn, LEVELS, 0)
        assert [e.problem for e in moved] == [e.problem for e in first]
        assert {len(e.before) for e in moved} == {2 * (turn - 1)}


def test_what_any_model_may_be_asked_takes_the_words_that_it_names_and_no_others():
    asked = talk.common()
    assert sum(map(len, asked.values())) == talk.n_common()
    for exercise in itertools.chain(*asked.values()):
        for word in exercise.problem.facts["says"]:
            assert exercise.task.check(exercise.problem, f"Oh, {word.upper()}!")
        assert not exercise.task.check(exercise.problem, f"Oh, x{exercise.problem.witness}x.")
    assert not any(e.task.check(e.problem, e.problem.prompt) for e in asked["facts"])
