"""Templates: what they can say, what they cannot reach, and that they end soon."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.rendering import LONGEST_TEXT, WITHIN_S, Compiled, TemplateRefused

VARIABLES: dict[str, Any] = {
    "name": "Anna & Søn",
    "code": 123456,
    "items": [{"title": "A", "price": 9.5}, {"title": "<B>", "price": 12}],
    "nothing": None,
    "empty": "",
    "many": list(range(1000)),
    "user": {"first": "Anna", "items": "own", "keys": [1]},
    "yes": True,
}


def text(source: str, field: str = "text") -> str:
    return str(Compiled({field: source}).render(VARIABLES)[field])


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("Hi {{ name }}, your code is {{ code }}.", "Hi Anna & Søn, your code is 123456."),
        ("{% for i in items %}{{ loop.index }}{{ i.title }}{% if not loop.last %},{% endif %}{% endfor %}", "1A,2<B>"),
        ("{% if user.first == 'Anna' %}Hej{% else %}Hi{% endif %}", "Hej"),
        ("{{ 'a' if code > 5 else 'b' }}", "a"),
        ("{{ missing|default('friend') }}", "friend"),
        ("{% if missing is defined %}x{% endif %}", ""),
        ("{{ nothing }}|{{ nothing|default('-') }}|{{ empty|default('-', true) }}", "|-|-"),
        ("{{ name|upper }} {{ name|truncate(4, '.') }} {{ '%s'|replace('%', 'p') }}", "ANNA & SØN Ann. ps"),
        ("{{ items[1].price|round(2) }} {{ many|length }} {{ many|first }} {{ many|last }}", "12.00 1000 0 999"),
        ("{{ name|urlencode }}", "Anna%20%26%20S%C3%B8n"),
        ("{{ user.items }}{{ user['first'][0:2] }}", "ownAn"),  # members of the data, never of Python's dict
        ("{{ ['a', 'b']|join('-') }}", "a-b"),
        ("line\n", "line\n"),
        ("{# a comment #}x", "x"),
    ],
)  # fmt: skip
def test_a_template_says(source: str, result: str) -> None:
    assert text(source) == result


def test_html_is_escaped_and_other_text_is_not() -> None:
    made = Compiled({"html": "<p>{{ name }}</p>", "text": "{{ name }}", "email": {"html": "{{ items[1].title }}"}})
    assert made.render(VARIABLES) == {
        "html": "<p>Anna &amp; Søn</p>",
        "text": "Anna & Søn",
        "email": {"html": "&lt;B&gt;"},
    }


def test_every_text_of_the_content_is_a_template() -> None:
    content = {"data": {"k": ["{{ code }}", 1, None, True]}, "sms": {"text": "{{ code }}"}}
    made = Compiled(content)
    assert made.render(VARIABLES) == {"data": {"k": ["123456", 1, None, True]}, "sms": {"text": "123456"}}
    assert made.variables == {"code"}


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.__class__ }}",
        "{{ name.upper }}",
        "{{ items.append }}",
        "{{ name['__class__'] }}",
        "{{ self }}",
        "{{ range }}",
        "{{ loop }}",
        "{{ cycler }}",
        "{% for i in items %}{{ loop.cycle }}{% endfor %}",
        "{% for i in items %}{{ loop._iterable }}{% endfor %}",
        "{% for i in items %}{{ loop }}{% endfor %}",
    ],
)
def test_nothing_but_the_variables_can_be_reached(source: str) -> None:
    made = Compiled({"text": source})
    with pytest.raises(TemplateRefused):
        made.render(VARIABLES)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ name.upper() }}", "line 1: call is not available"),
        ("{{ range(10) }}", "call"),
        ("{{ 9 ** 9 ** 9 }}", "pow"),
        ("{{ name * 1000000 }}", "mul"),
        ("{{ name + name }}", "add"),
        ("{{ name ~ name }}", "concat"),
        ("{% set x = name %}", "assign"),
        ("{% macro m() %}{% endmacro %}", "macro"),
        ("{% include 'x' %}", "include"),
        ("{% import 'x' as x %}", "import"),
        ("{% extends 'x' %}", "extends"),
        ("{% block x %}{% endblock %}", "block"),
        ("{% filter upper %}x{% endfilter %}", "filter block"),
        ("{{ name|safe }}", "no filter safe"),
        ("{{ name|center(1000000000) }}", "no filter center"),
        ("{{ name|attr('x') }}", "no filter attr"),
        ("{{ name|counted }}", "no filter counted"),
        ("{{ {'a': 1} }}", "dict"),
        ("{% for i in many if i %}{% endfor %}", "kind of loop"),
        ("{% for i in many recursive %}{% endfor %}", "kind of loop"),
        ("{% for a in many %}{% for b in many %}{% for c in many %}{% endfor %}{% endfor %}{% endfor %}", "3 loops" ),
        ("\n\n{{ name", "line 3"),
        ("{% if %}", "line 1"),
        ("{{ x is odd }}", ""),
        ("{% if a %}" * 40 + "{% endif %}" * 40, "nested too deeply"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),
        ("x" * (LONGEST_TEXT + 1), "characters"),
    ],
)  # fmt: skip
def test_what_a_template_may_not_say_is_refused_when_it_is_stored(source: str, why: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        Compiled({"sms": {"text": source}})
    assert refused.value.field == "sms.text" and why.replace("3 loops", "loops in each other") in refused.value.why


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("{{ missing }}", "variables.missing"),
        ("{{ user.last }}", "variables.last"),
        ("{% for i in missing %}{% endfor %}", "variables.missing"),
        ("{% if missing %}{% endif %}", "variables.missing"),
        ("{{ missing|upper }}", "variables.missing"),
        ("{{ missing == 1 }}", "variables.missing"),
        ("{{ items }}", "text"),
        ("{{ user }}", "text"),
        ("{{ yes }}", "text"),
        ("{{ items|upper }}", "text"),
        ("{{ name|round }}", "text"),
        ("{{ name < 3 }}", "text"),
        ("{% for i in name %}{% endfor %}", "text"),
        ("{{ code|length }}", "text"),
        ("{{ name|truncate('x') }}", "text"),
    ],
)
def test_what_cannot_be_made_of_the_variables_is_named(source: str, field: str) -> None:
    with pytest.raises(TemplateRefused) as refused:
        text(source)
    assert refused.value.field == field and "Anna" not in str(refused.value)


BOMBS = [
    "{% for a in many %}{% for b in many %}{{ name }}{% endfor %}{% endfor %}",
    "{% for a in many %}{% for b in many %}{% if a == b %}{% endif %}{% endfor %}{% endfor %}",
    "{% for a in many %}{% for b in many %}{% endfor %}{% endfor %}",
    "{{ name|replace('a', 'aaaaaaaa')|replace('a', name)|replace('n', big) }}",
    "{{ big|replace('å', big) }}",
    "{{ bigs|join(big) }}",
    "{{ big" + "|urlencode" * 20 + " }}",
    "{% for a in bigs %}{{ a|urlencode|urlencode|urlencode|length }}{% endfor %}",
    "{% for a in bigs %}{{ a }}{% endfor %}",
    "{{ bigs }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_stopped(source: str) -> None:
    big = "å" * 60_000
    made = Compiled({"text": source})
    began = time.process_time()
    with pytest.raises(TemplateRefused):
        made.render({**VARIABLES, "big": big, "bigs": [big] * 900})
    assert time.process_time() - began < 100 * WITHIN_S  # a step may take a little longer than all may


def test_longer_lists_than_a_message_needs_are_refused() -> None:
    with pytest.raises(TemplateRefused, match="more than 1000 items"):
        Compiled({"text": "{% for a in xs %}{% endfor %}"}).render({"xs": [1] * 1001})


PIECES = st.sampled_from(
    ["{{", "}}", "{%", "%}", "{#", "#}", " ", "name", "items", "for", "in", "endfor", "if", "else", "endif", "is", ".",
     "|", "upper", "join", "loop", "index", "defined", "not", "and", "(", ")", "[", "]", "'", ",", "1", "==", "x",
     "__class__", "raw", "endraw", "user", "first", "~", "-", "\n", "=", "default", "block", "import", "set"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=60))
def test_any_text_is_a_template_or_is_refused(source: str) -> None:
    try:
        made = Compiled({"text": source, "html": source})
        rendered = made.render(VARIABLES)
    except TemplateRefused as refused:
        assert refused.field.split(".")[0] in ("text", "html", "variables") and refused.why
    else:
        assert isinstance(rendered["text"], str) and "object at 0x" not in rendered["text"]


def test_the_same_template_serves_many_messages() -> None:
    made = Compiled({"text": "Hi {{ name }}"})
    assert [made.render({"name": n})["text"] for n in ("A", "B", "A")] == ["Hi A", "Hi B", "Hi A"]
