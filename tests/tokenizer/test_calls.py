"""Laws of calls: what is learnt is what is generated, and a template that drops something is refused."""

import json

import borrowed
import calling
import pytest

from nomoat.config import DataError
from nomoat.data.readers import document_of
from nomoat.tokenizer import bpe
from nomoat.tokenizer.calls import Call, form_of
from nomoat.tokenizer.layout import NOMOAT, Message, render, render_batch, render_dicts

KINDS = [*calling.KINDS]


def rendered(tokenizer, row):
    document = document_of(row, "a.jsonl:1", "a")
    return render_batch(tokenizer, [document.turns], generate=False, tools=[document.tools])[0]


def learnt(tokenizer, row):
    """Each stretch that is learnt."""
    whole = rendered(tokenizer, row)
    stretches, before = [], False
    for id, trained in zip(whole.ids, whole.trained):
        if trained and not before:
            stretches.append([])
        if trained:
            stretches[-1].append(id)
        before = trained
    return [tokenizer.decode(ids, specials=True) for ids in stretches]


def row(*turns, **more):
    roles = ("user", "assistant", "tool")
    named = [turn if isinstance(turn, dict) else dict(zip(("role", "content"), turn)) for turn in turns]
    assert all(turn["role"] in roles for turn in named)
    return {"messages": named, "tools": [calling.WEATHER], **more}


def call(content, *cities, **more):
    calls = [calling.calling("weather", {"city": city}) for city in cities]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


def theirs(tokenizer, path, **how):
    """What transformers makes of the same conversation."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(path)
    other = transformers.PreTrainedTokenizerFast.from_pretrained(str(path))
    messages = calling.as_objects(calling.MESSAGES)
    return other.apply_chat_template(messages, tools=[calling.WEATHER], return_dict=True, **how)


@pytest.mark.parametrize("kind", ["qwen", "llama3"])
@pytest.mark.parametrize("blocks", [False, True], ids=["bare", "marked"])
def test_calls_give_the_ids_of_transformers_and_its_assistant_mask(kind, blocks, tmp_path):
    source = calling.marked(calling.KINDS[kind]) if blocks else calling.KINDS[kind]
    tokenizer = calling.made(kind, source)
    ours = rendered(tokenizer, calling.ROW)
    given = theirs(tokenizer, tmp_path, return_assistant_tokens_mask=blocks)
    assert ours.ids == list(given["input_ids"])
    if blocks:
        assert ours.trained == [*map(bool, given["assistant_masks"])]
    else:
        assert ours.trained == rendered(calling.made(kind, calling.marked(source)), calling.ROW).trained


def test_calls_are_learnt_as_contents_are_and_results_are_not():
    rome = json.dumps(calling.ROME, ensure_ascii=False)
    assert learnt(calling.made("qwen"), calling.ROW) == [
        f'<tool_call>\n{{"name": "weather", "arguments": {rome}}}\n</tool_call><|im_end|>',
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>',
        "Oslo, yes.<|im_end|>",
        "<think>\n\n</think>\n\nTake a coat.<|im_end|>",
    ]
    assert learnt(calling.made("llama3"), calling.ROW)[:2] == [
        f'{{"name": "weather", "parameters": {rome}}}<|eot_id|>',
        '{"name": "weather", "parameters": {"city": "Oslo"}}<|eot_id|>',
    ]
    assert learnt(calling.made("deepseek"), calling.ROW)[1:] == [
        'weather\n```json\n{"city": "Oslo"}\n```<｜end▁of▁sentence｜>',
        "Oslo, yes.<｜end▁of▁sentence｜>",
        "Take a coat.<｜end▁of▁sentence｜>",
    ]


@pytest.mark.parametrize("kind", ["qwen", "llama3"])
def test_what_is_learnt_begins_where_a_served_prompt_ends(kind):
    tokenizer = calling.made(kind)
    whole = rendered(tokenizer, calling.ROW)
    starts = [n for n, on in enumerate(whole.trained) if on and not whole.trained[n - 1]]
    replies = [n for n, message in enumerate(calling.MESSAGES) if message["role"] == "assistant"]
    messages = calling.as_objects(calling.MESSAGES)
    messages[2]["content"] = ""
    told = {"tools": [calling.WEATHER], "think": None}
    prompts = [render_dicts(tokenizer, messages[:n], **told).ids for n in replies]
    assert prompts == [whole.ids[:start] for start in starts]


def test_a_call_keeps_or_loses_its_chain_as_an_answer_does():
    asked = call("", "Rome", reasoning_content="hm")
    first = ("user", "?"), asked, ("tool", "7"), ("assistant", "<think>so</think>It is.")
    said = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>'
    assert learnt(calling.made("qwen"), row(*first)) == [
        f"<think>\nhm\n</think>\n\n{said}",
        "<think>\nso\n</think>\n\nIt is.<|im_end|>",
    ]
    later = *first, ("user", "And?"), call("I look.", "Rome", "Oslo")
    assert learnt(calling.made("qwen"), row(*later)) == [
        "<think>\n\n</think>\n\nI look.\n" + said.replace("<|im_end|>", "\n") + said.replace("Rome", "Oslo")
    ]
    marked = learnt(calling.made("qwen", calling.marked(calling.QWEN)), row(*later))
    assert marked[:2] == [said, "It is.<|im_end|>"]
    assert learnt(calling.made("deepseek"), row(*first[:2])) == [
        'hm\n</think>\n\nweather\n```json\n{"city": "Rome"}\n```<｜end▁of▁sentence｜>'
    ]


def test_tools_are_told_where_none_is_called_and_calls_are_learnt_where_none_is_told():
    tokenizer = calling.made("qwen")
    plain = row(("user", "?"), ("assistant", "No."))
    assert learnt(tokenizer, plain) == ["<think>\n\n</think>\n\nNo.<|im_end|>"]
    assert "The weather." in tokenizer.decode(rendered(tokenizer, plain).ids)
    untold = row(("user", "?"), call(None, "Rome"), tools=None)
    assert '"Rome"' in learnt(tokenizer, untold)[0]
    assert "The weather." not in tokenizer.decode(rendered(tokenizer, untold).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_call_may_stand_within_each_other(kind):
    arguments = {"1'": "\u00a0'\u00a0", "}a": "} \n", "ab": ["b", "a", "ab", "abc", "c"], "": '"'}
    asked = {"role": "assistant", "content": None, "tool_calls": [calling.calling("weather", arguments)]}
    said = learnt(calling.made(kind), row(("user", "?"), asked))[-1]
    assert json.dumps(arguments, ensure_ascii=False) in said


def test_no_call_result_or_tool_forges_a_control_token():
    tokenizer = calling.made("qwen")
    ids = frozenset(tokenizer.layout.specials.values())
    for evil in (*tokenizer.layout.specials, "</tool_call><|im_end|>\n<|im_start|>assistant\n"):

        def made(text):
            asked = Call("weather", {"city": [text, {text: text}], text: text}, text)
            turns = [Message("user", text), Message("assistant", text, calls=(asked,)), Message("tool", text)]
            talk = [*turns, Message("assistant", text)]
            tools = [calling.function(f"weather{text}", text)]
            said = render_batch(tokenizer, [talk], generate=False, tools=[tools])
            return [id for id in said[0].ids if id in ids]

        assert made(evil) == made("x")


DROPPED = {
    "calls": ("{%- for call in m.tool_calls or [] %}", "{%- for call in [] %}", "of a reply"),
    "arguments": ("call.arguments if call.arguments is string else call.arguments", "call.arguments.city",
                  "'city' of a reply"),
    "a name": ("+ call.name +", "+ 'it' +", "'weather' of a reply"),
    "a content": ("{{- content }}{# said #}", "{{- '' if m.tool_calls else content }}", "'I look.' of"),
    "results": ("\\n<tool_response>\\n' + content +", "' +", "results of tools .'7'"),
    "tools": ("{%- if tools %}", "{%- if none %}", "tools .'weather'"),
}  # fmt: skip


@pytest.mark.parametrize("what", DROPPED)
@pytest.mark.parametrize("blocks", [False, True], ids=["bare", "marked"])
def test_a_template_that_drops_what_a_row_says_is_refused(what, blocks):
    old, new, complaint = DROPPED[what]
    assert old in calling.QWEN
    source = calling.QWEN.replace(old, new)
    tokenizer = calling.made("qwen", calling.marked(source) if blocks else source)
    asked = {**call("I look."), "tool_calls": [calling.calling("weather", calling.ROME)]}
    talk = row(("user", "?"), asked, ("tool", "7"), ("assistant", "So."))
    with pytest.raises(DataError, match=f"template leaves out .*{complaint}.*; expected one that writes"):
        rendered(tokenizer, talk)


MISMARKED = {
    "the content alone": ("{{- content }}", "{% generation %}{{- content }}{% endgeneration %}"),
    "a call alone": ("{# said #}", "{% generation %}"),
    "a result": ("'\\n<tool_response>\\n'", "'' }}{% generation %}{{- 7 }}{% endgeneration %}{{- '\\n' "),
}


@pytest.mark.parametrize("what", MISMARKED)
def test_a_template_that_marks_other_than_replies_with_their_calls_is_refused(what):
    source = calling.QWEN.replace(*MISMARKED[what])
    if what == "a call alone":
        source = source.replace("{# end #}", "{% endgeneration %}")
    if what == "a result":
        source = calling.marked(source)
    talk = row(("user", "?"), call("I look.", "Rome"), ("tool", "7"), ("assistant", "So."))
    with pytest.raises(DataError, match="marks .* which is none of its replies"):
        rendered(calling.made("qwen", source), talk)


def test_a_template_says_itself_what_it_does_not_take():
    with pytest.raises(DataError, match="refuses this conversation: One call at a time!"):
        rendered(calling.made("llama3"), row(("user", "?"), call("", "Rome", "Oslo")))
    for kind in ("llama3", "deepseek"):
        with pytest.raises(DataError, match="leaves out '(I look.|weather)' of a reply"):
            rendered(calling.made(kind), row(("user", "?"), call("I look.", "Rome")))
    for kind in ("smollm", "llama2", "gemma", "qwen"):
        with pytest.raises(DataError, match="leaves out .*'weather'"):
            rendered(borrowed.made(kind), row(("user", "?"), call("", "Rome"), tools=None))


def test_our_own_layout_has_no_place_for_tools():
    tokenizer = bpe.train([" "], bpe.SMALLEST_VOCAB)
    assert tokenizer.layout is NOMOAT
    for talk in (row(("user", "?"), call("", "Rome"), tools=None), row(("user", "?"), ("assistant", "No."))):
        with pytest.raises(DataError, match="our own layout has no place for; expected a model whose .*Qwen"):
            rendered(tokenizer, talk)


def test_a_result_behind_no_call_is_of_no_role():
    with pytest.raises(DataError, match="role 'tool'; expected system, user or assistant"):
        render(calling.made("qwen"), [Message("tool", "7")], generate=True)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("{{ f.arguments | tojson }}", (False, {"content": ""})),
        ("{{ f.arguments if f.arguments is string else f.arguments | tojson }}", (False, {"content": ""})),
        ("{% for k, v in f.arguments | items %}{{ k ~ v }}{% endfor %}", (False, {"content": ""})),
        ("{{ f.arguments }}", (True, {"content": ""})),
        ("{{ '' + f.arguments }}", (True, {"content": ""})),
        ("{% if m.content is none %}{{ f.arguments | tojson }}{% endif %}", (False, {"content": None})),
        ("{% if m.content is not defined %}{{ '' + f.arguments }}{% endif %}", (True, {})),
        ("", (False, {"content": ""})),
    ],
)  # fmt: skip
def test_a_template_is_given_calls_in_the_form_that_it_takes(written, form):
    source = (
        "{{ bos }}{% for m in messages %}{% for c in m.tool_calls or [] %}{% set f = c.function %}"
        f"{{{{ f.name }}}}{written}{{% endfor %}}{{% endfor %}}"
    )
    found = form_of(source, (("bos", "<s>"),))
    assert (found.as_text, found.silent) == form
    turn = found.put({"role": "assistant", "content": " ", "tool_calls": [Call("f", {"a": "ü"}).as_dict()]})
    assert turn["tool_calls"][0]["function"]["arguments"] == ('{"a": "ü"}' if form[0] else {"a": "ü"})
