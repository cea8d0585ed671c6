"""Laws of foreign templates: what transformers renders we render; nothing leaves the sandbox or runs on."""

import resource
import threading
import time

import pytest

from nomoat.config import DataError
from nomoat.tokenizer import budget, jinja

MESSAGES = [
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": 'What is "3 < 4"? ' + "é日🧠" * 3},
    {"role": "assistant", "content": "So\nit is.", "reasoning_content": "hm"},
]
FINE = r"""
{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ m['role'] }}{{ m.content | trim }}
{% endfor %}
=
{%- for m in messages if m.role != 'user' -%} {{ m.role | upper }} {%- else -%} none {%- endfor -%}
=
{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}
=
{% set ns = namespace(a=1, l=[]) %}
{% for m in messages %}{% set ns.a = ns.a + 1 %}{% set ns.l = ns.l + [m.role] %}{% endfor %}
{{ ns.a }}{{ ns.l }}
=
{% macro show(m, end='!') %}{{ m.role ~ ':' ~ m.content ~ end }}{% endmacro %}{{ show(messages[0]) }}
=
{% macro twice() %}{{ caller() }}{{ caller() }}{% endmacro %}{% call twice() %}a{% endcall %}
=
{{ messages | tojson }}{{ messages | tojson(indent=2) }}{{ {'b': 1, 'a': none} | tojson(sort_keys=true) }}
=
{{ messages[::-1] | map(attribute='role') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list }}
=
{{ '%s has %d of %5.2f' % ('a', 3, 1.5) }}{{ 'on 20260101: %s' % 1 }}{{ '%s' | format(2) }}
{{ '{}: {a:>5}'.format(1, a='b') }}
=
{{ 'a,b'.split(',')[1] }}{{ 'a b'.title() }}{{ ' x '.strip() }}{{ 'abc'.replace('b', 'xyz') }}{{ 'x' * 3 }}
=
{{ messages[1].content.startswith('What') }}{{ 'a' in 'abc' }}{{ messages[0].get('tools', 'none') }}
=
{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0] | dictsort }}
=
{{ undefined_name }}{{ undefined_name is defined }}{{ undefined_name | default('d') }}{{ none }}{{ true }}
=
{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% endif %}{{ rest | length }}
=
{{ range(5) | list }}{{ [1, 2, 3] | sum }}{{ (1, 2) }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 10 }}{{ 7 / 2 }}{{ -3 }}
=
{% filter upper %}ab{{ messages[0].role }}{% endfilter %}{% set x %}in{{ 1 }}{% endset %}{{ x }}
=
{{ 'a\nb' | indent(4) }}{{ 'abc' | first }}{{ [3, 1] | sort }}{{ 'a' | center(5) }}{{ 1.25 | round(1) }}
=
{%- generation -%} a {%- endgeneration -%}{{ raise_exception('x') if messages | length > 5 else 'fine' }}
=
{{ '<' | e }}{{ messages[0].content is string }}{{ dict(a=1).a }}{{ joined | default([]) | join }}
=
    {% if true %}
  kept
    {% endif %}
  {# gone #}
end"""
RUNS_ON = {
    "loops": "{% for i in many %}{% for j in many %}{% endfor %}{% endfor %}",
    "generators": "{% for a in many|map('int') %}{% for b in many|map('int') %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "one macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "a block": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "comparing": "{% set ns=namespace(a=['x'],b=['x']) %}{% for i in r %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "powers": "{% set ns=namespace(a=9) %}{% for i in r %}{% set ns.a = ns.a * ns.a %}{% endfor %}",
    "a power": "{{ 9 ** 999999999 }}",
    "digits": "{{ 1.5|round(1000000000) }}",
    "sums": "{{ (many|batch(1)|list)|sum(start=[]) }}",
}
GROWS = {
    "times": "{{ 'x' * 1000000000 }}",
    "times a list": "{{ (1000000000 * [0])|length }}",
    "plus": "{% set ns=namespace(a='xxxxxxxx') %}{% for i in r %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "~": "{% set ns=namespace(a='xxxxxxxx') %}{% for i in r %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "set": "{% set ns=namespace(a='xxxxxxxx') %}{% for i in r %}{% set ns.a %}{{ ns.a }}{{ ns.a }}"
    "{% endset %}{% endfor %}",
    "lists": "{% set ns=namespace(a=['x']) %}{% for i in r %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}",
    "dicts": "{% set ns=namespace(a='x') %}{% for i in r %}{% set ns.a = dict(a=ns.a, b=ns.a) %}{% endfor %}",
    "text": "{% for i in many %}" + "x" * 50_000 + "{% endfor %}",
    "text in a set": "{% set a %}{% for i in many %}" + "x" * 50_000 + "{% endfor %}{% endset %}",
    "center": "{{ 'a'|center(1000000000) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "map": "{{ ['a']|map('center', 1000000000)|list }}",
    "%": "{{ '%1000000000d' % 1 }}",
    "% *": "{{ '%*d' % (1000000000, 1) }}",
    "str.format": "{{ '{:>1000000000}'.format(1) }}",
    "str.format, nested": "{{ '{:{}}'.format(1, 1000000000) }}",
    "str.format, often": "{{ ('{0}' * 1000).format('x' * 100000) }}",
    "format": "{{ '%1000000000d'|format(1) }}",
    "replace": "{{ ('x'*1000000)|replace('x', 'y'*1000000) }}",
    "a method kept": "{% set f = ('x'*1000000).replace %}{{ f('x', 'y'*1000000) }}",
    "join": "{{ (many|list)|join('x'*100000) }}",
    "join, turned": "{{ ('x'*100000).join(many|map('string')) }}",
    "indent": "{{ ('\n'*1000000)|indent(10000) }}",
    "batch": "{{ [1]|batch(1000000000, 'x')|list }}",
    "truncate": "{{ 'abc'|truncate(2, true, 'x'*9000000) }}",
    "json": "{{ messages|tojson(indent=100000000) }}",
    "many lists": "".join(f"{{% set a{n} = many|list %}}" for n in range(999)),
    "many slices": "{% set x = 'x' * 90000 %}" + "".join(f"{{% set a{n} = x[1:] %}}" for n in range(999)),
    "many copies": "{% set x = 'x' * 90000 %}" + "".join(f"{{% set a{n} = x.upper() %}}" for n in range(999)),
    "dates": "{{ strftime_now('%1000000000d') }}",
}
LEAVES = [
    "{{ ''.__class__ }}", "{{ ''|attr('__class__') }}", "{{ ''['__class__'] }}",
    "{{ raise_exception.__globals__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{% set ns=namespace(__class__=1) %}", "{{ cycler.__init__.__globals__ }}", "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}", "{% extends 'x' %}", "{{ messages.append(1) }}",
    "{{ messages[0].update(a=1) }}", "{{ 'a'.encode() }}", "{{ '{0.__class__}'.format(1) }}",
    "{{ (1).to_bytes(1000000000, 'big') }}", "{{ 'a'.translate({97: 'b'}) }}", "{{ lipsum(n=1000000) }}",
    "{{ self._TemplateReference__context }}", "{{ '\t'.expandtabs(1000000000) }}",
    "{{ ''.format_map(messages[0]) }}",
]  # fmt: skip


@pytest.mark.parametrize("source", FINE.split("\n=\n"))
def test_what_transformers_renders_is_rendered_the_same(source):
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs = render_jinja_template([MESSAGES], chat_template=source, bos_token="<s>")[0][0]
    messages = [
        {"thinking": m["reasoning_content"], **m} if "reasoning_content" in m else m for m in MESSAGES
    ]
    variables = {"messages": messages, "bos_token": "<s>", "tools": None, "documents": None}
    ours = jinja.render(source, variables, 100)
    assert ours.replace(jinja.BEGIN, "").replace(jinja.END, "") == theirs


@pytest.mark.parametrize("source", [*RUNS_ON.values(), *GROWS.values()], ids=[*RUNS_ON, *GROWS])
def test_a_template_ends_within_its_bounds(source, monkeypatch):
    for name, bound in (("SECONDS", 0.2), ("STEPS", 50_000), ("CHARS", 100_000)):
        monkeypatch.setattr(budget, name, bound)
    ends_in_bounds(source)


@pytest.mark.check
@pytest.mark.parametrize("source", [*RUNS_ON.values(), *GROWS.values()], ids=[*RUNS_ON, *GROWS])
def test_a_template_ends_in_seconds_and_megabytes(source):
    ends_in_bounds(source)


def ends_in_bounds(source: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    with pytest.raises(DataError, match="the chat template stopped: .*; expected .*; mend"):
        jinja.render(source, {"messages": MESSAGES, "r": range(60), "many": range(99999)}, 100)
    assert time.thread_time() - start < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize("source", LEAVES)
def test_a_template_does_not_leave_its_sandbox(source):
    with pytest.raises(DataError, match="the chat template stopped: .*; expected .*; mend"):
        jinja.render(source, {"messages": MESSAGES}, 100)
    assert len(MESSAGES[0]) == 2


def test_what_cannot_be_read_is_a_clear_error():
    nested = "{% for a in [1] %}" * 60 + "{% endfor %}" * 60
    deep = ["{{ " + "1+" * 5_000 + "1 }}", "{{ a" + ".b" * 5_000 + " }}", "{{ 1" + "0" * 999 + ".0 }}"]
    parens = "{{ " + "(" * 5000 + ")" * 5000 + " }}"
    for source in ("{% for %}", "{{ 1 | nothing }}", "x" * 100_001, parens, nested, *deep):
        with pytest.raises(DataError, match="the chat template .*; mend its chat_template.jinja"):
            jinja.render(source, {}, 0)
    with pytest.raises(DataError, match=r"refuses this conversation: roles \\x1b\[2J must"):
        jinja.render("{{ raise_exception('roles \x1b[2J must alternate') }}", {}, 0)


def test_each_thread_has_its_own_bounds():
    results = []

    def work(source: str) -> None:
        try:
            results.append(jinja.render(source, {"messages": MESSAGES}, 100))
        except DataError as error:
            results.append(str(error))

    sources = ["{{ r[0] }}{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ messages[0].role }}"] * 4
    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        sorted("stopped" if "stopped" in result else result for result in results)
        == ["stopped"] * 4 + ["system"] * 4
    )


def test_a_long_conversation_is_no_endless_template():
    messages = [{"role": "user", "content": "x" * 5_000}] * 2_000
    source = "{% for m in messages %}{{ m.content + '!' }}{% endfor %}"
    assert jinja.render(source, {"messages": messages}, 10**7).count("!") == 2_000
