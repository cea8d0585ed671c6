"""Laws of the small talk: keyed, in both languages, honest about its language, free of control spellings."""

import itertools
import string

import pytest

from nomoat.data.conversation import LANGS, conversations, fold, heldout, topics, wordings
from nomoat.tokenizer.layout import NOMOAT

N = 2000


def take(stream, n=N):
    return list(itertools.islice(stream, n))


def questions(talks):
    return {fold(turn.content) for talk in talks for turn in talk if turn.role == "user"}


def answers(talks):
    return [turn.content for talk in talks for turn in talk if turn.role == "assistant"]


ANSWERS = {lang: {answer[lang] for t in topics().values() for answer in t.answers} for lang in LANGS}


def test_the_same_seed_gives_the_same_talk_and_another_seed_another():
    assert take(conversations(3), 200) == take(conversations(3), 200)
    assert take(conversations(3), 200) != take(conversations(4), 200)
    assert take(heldout(3), 50) != take(conversations(3), 50)


@pytest.mark.parametrize("stream", [conversations, heldout])
def test_every_talk_is_turns_that_end_with_the_assistant(stream):
    for talk in take(stream(0)):
        roles = [turn.role for turn in talk if turn.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
        assert all(turn.role != "system" for turn in talk[1:])
        assert all(turn.content == turn.content.strip() and turn.content for turn in talk)


def test_no_control_token_and_no_template_mark_is_spelled():
    text = "\n".join(turn.content for talk in take(conversations(1)) + take(heldout(1)) for turn in talk)
    assert not any(s in text for s in (*NOMOAT.specials, "<|", "{", "}", "|", "\t"))
    assert set(text) <= set(string.ascii_letters + string.digits + " \n.,:;?!'()+*/=-" + "äöüÄÖÜß")


def test_heldout_wordings_are_never_trained_on():
    held = {fold(w) for t in topics().values() for lang in LANGS for w in wordings(t.asked[lang], "heldout")}
    for topic in topics().values():
        for lang in LANGS:
            train = {fold(w) for w in wordings(topic.asked[lang], "train")}
            assert train
            assert not train & held
    assert len(held) > 80
    assert not held & questions(take(conversations(0)))
    assert len(held & questions(take(heldout(0)))) > 80


def test_each_language_has_many_wordings_and_every_topic_is_talked_about():
    for lang in LANGS:
        possible = {fold(w) for t in topics().values() for w in wordings(t.asked[lang], "train")}
        assert len(possible & questions(take(conversations(0)))) >= 150
    english, german = (
        {fold(w) for t in topics().values() for w in wordings(t.asked[x], "train")} for x in LANGS
    )
    assert not english & german  # or the answer's language would be a guess
    said = set(answers(take(conversations(0))))
    assert said == ANSWERS["en"] | ANSWERS["de"]


def test_answers_are_short_and_a_pair_is_in_two_languages():
    assert not ANSWERS["en"] & ANSWERS["de"]
    for answer in ANSWERS["en"] | ANSWERS["de"]:
        assert 5 <= len(answer.split()) <= 25, answer


def test_a_system_prompt_that_names_a_language_is_obeyed():
    seen = set()
    for talk in take(conversations(5)):
        first = talk[0].content
        if talk[0].role == "system" and any(w in first for w in ("German", "Deutsch", "English", "Englisch")):
            lang = "de" if "German" in first or "Deutsch" in first else "en"
            assert set(answers([talk])) <= ANSWERS[lang]
            seen.add((lang, first.startswith("A") and "auf" in first))
    assert len(seen) == 4


def test_both_languages_come_about_equally_often_and_talks_are_short():
    talks = take(conversations(6))
    german = sum(text in ANSWERS["de"] for text in answers(talks))
    assert 0.45 < german / len(answers(talks)) < 0.55
    assert {sum(turn.role == "user" for turn in talk) for talk in talks} >= {1, 2, 3}
    assert max(len(t) for t in talks) <= 13
