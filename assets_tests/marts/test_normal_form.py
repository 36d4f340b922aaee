"""What counts as layout, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from my_platform.marts.normal_form import normal_form


@pytest.mark.parametrize(
    "relaid",
    [
        "select a,b from t where c='x  y'",
        "  select a ,\n\tb\nfrom t   where c = 'x  y'  ",
        "select a, b -- it's a comment\nfrom t where c = 'x  y'",
        "select a, /* two\nlines' */ b from t where c = 'x  y'",
        "{# jinja's own\n #}select a, b from t where c = 'x  y'",
        "-- {# with a jinja comment in it #}\nselect a, b from t where c = 'x  y'",
    ],
)
def test_comments_and_white_space_do_not_count(relaid: str) -> None:
    assert normal_form(relaid) == normal_form("select a, b from t where c = 'x  y'")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select 'a b'", "select 'a  b'"),
        ('select "a b"', 'select "a  b"'),
        ("select $$a b$$", "select $$a  b$$"),
        ("select 'a -- b'", "select 'a'"),
        ("select 'it''s /* here */'", "select 'it''s '"),
        (r"select e'\'  --'", r"select e'\' --'"),
        ("select a b", "select ab"),
        ("select A", "select a"),
        ("{{ f('a  b') }}", "{{ f('a b') }}"),
        ("{{- x }}", "{{ -x }}"),
        ("-- {{ ref('a') }}\nselect 1", "select 1"),
        ("select '{{ f(\"it's  a\") }}'", "select '{{ f(\"it's a\") }}'"),
        ("select 'a {# ' #} -- b'", "select 'a {# ' #}"),
    ],
)
def test_what_a_database_or_dbt_can_see_counts(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


def test_layout_inside_of_jinja_does_not_count() -> None:
    assert normal_form("{{f( 'a',b = 1 )}}") == normal_form("{{ f('a', b=1) }}")


@pytest.mark.parametrize("opened", ["don't ", 'the " ', "{{ ", "{% ", "e'\\'", "/* "])
def test_what_is_never_closed_takes_no_longer(opened: str) -> None:
    text = opened + "{{ f(a) }} 'b' " * 200 + "{{ f("
    assert "f(a)" in normal_form(text)


_PIECE = st.sampled_from(
    [
        "select",
        "a",
        "b1",
        "'x  y'",
        "''",
        '"q  r"',
        ",",
        "(",
        ")",
        "=",
        "{{ f('a  b') }}",
        "{% if x %}",
        "$$ d  d $$",
    ]
)
_GAP = st.sampled_from([" ", "\n", "\t  ", " -- c'\n", " /* d' */ ", " {# e' #} "])


@given(st.lists(st.tuples(_PIECE, _GAP, _GAP), min_size=1))
def test_any_two_layouts_of_the_same_pieces_have_one_form(pieces: list[tuple[str, str, str]]) -> None:
    one = "".join(piece + gap for piece, gap, _ in pieces)
    other = "".join(piece + gap for piece, _, gap in pieces)
    assert normal_form(one) == normal_form(other)
    assert normal_form(normal_form(one)) == normal_form(one)
