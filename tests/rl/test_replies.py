"""What answers of a server are taken, and which are told apart from them."""

import pytest

from nomoat.rl.replies import Unusable, sample_of, samples_of

ASKED = {"n": 1, "prompt": [1, 7], "max_tokens": 4, "stop_token_ids": [2, 3]}


def choice(ids, logps=None, finish="stop", **more):
    logps = [-0.5] * len(ids) if logps is None else logps
    said = {"index": 0, "token_ids": ids, "logprobs": {"token_logprobs": logps}, "finish_reason": finish}
    return {**said, **more}


@pytest.mark.parametrize(
    ("ids", "finish", "expected", "stop"),
    [
        ([5, 2], "stop", [5, 2], "end"),
        ([5, 6, 7, 8], "length", [5, 6, 7, 8], "length"),
        ([5, 6, 7, 3], "length", [5, 6, 7, 3], "end"),
        ([5, 3, 9, 9], "length", [5, 3], "end"),  # it went on: what follows was not asked for
    ],
)
def test_an_answer_ends_at_its_first_stop_id(ids, finish, expected, stop):
    logps = [-float(n) for n in range(len(ids))]
    sample = sample_of(choice(ids, logps, finish, prompt_token_ids=[1, 7]), ASKED, 10)
    assert (sample.ids_T.tolist(), sample.stop) == (expected, stop)
    assert sample.logp_T.tolist() == logps[: len(expected)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"token_ids": None}, "without the ids"),
        ({"logprobs": None}, "without the ids"),
        ({"logprobs": {"token_logprobs": [-1.0]}}, "without the ids"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "without the ids"),
        ({"token_ids": [5, 10]}, "id 10; expected 0 to 9"),
        ({"token_ids": [5, True]}, "id True"),
        ({"logprobs": {"token_logprobs": [-1.0, None]}}, "no number"),
        ({"logprobs": {"token_logprobs": [-1.0, float("nan")]}}, "no number"),
        ({"prompt_token_ids": [0, 1, 7]}, "another prompt"),
        ({"token_ids": [5, 6]}, "after 2 tokens by 'stop'"),
        ({"token_ids": [5, 6], "finish_reason": "length"}, "after 2 tokens by 'length'"),
    ],
)
def test_what_can_not_be_learned_from_is_said(wrong, said):
    with pytest.raises(Unusable, match=said):
        sample_of(choice([5, 2]) | wrong, ASKED, 10)


def test_choices_are_as_many_as_asked_for_and_in_order():
    both = {"choices": [choice([6, 2]) | {"index": 1}, choice([5, 2])]}
    assert [s.ids_T[0] for s in samples_of(both, {**ASKED, "n": 2}, 10)] == [5, 6]
    for table in (both, {}, {"choices": None}):
        with pytest.raises(Unusable, match="expected 1"):
            samples_of(table, ASKED, 10)
