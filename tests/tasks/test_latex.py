"""One token for every spelling of a sign, and thousands parted by commas outside brackets alone."""

import pytest

from nomoat.tasks import latex, texts


def seen(text, **options):
    return [token.text for token in latex.tokens(text, **options)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("11,\\! 111,\\! 100", "11111100"),
        ("1~000~000", "1000000"),
        ("1\u202f000", "1000"),
        ("10{,}000", "10000"),
        ("1,000", "1000"),
        ("0,001", "0 , 001"),
        ("(3,100)", "( 3 , 100 )"),
        ("(1{,}000,2)", "( 1000 , 2 )"),
        ("\\{1,234\\}", "\\{ 1 , 234 \\}"),
        ("\\frac{1}{5,525}", "frac { 1 } { 5525 }"),
        ("1,\\ 200", "1 , 200"),
        ("1 000", "1 000"),
        ("x≥½", "x ≥ frac { 1 } { 2 }"),
        ("x\\geqslant\\frac12", "x ≥ frac { 1 } { 2 }"),
        ("\\frac9{19}", "frac { 9 } { 19 }"),
        ("10⁻³", "10 ^ { - 3 }"),
        ("–7 − 1", "- 7 - 1"),
        ("0.\\overline{3}", "0.(3)"),
        ("0.3\u0305", "0.(3)"),
        ("0.33...", "0.33 . . ."),
        ("0.8333...", "0.8(3)"),
        (".\\left/0", ". / 0"),
        (".\\dot x", ". dot x"),
        ("0.(3", "0 . ( 3"),
        (".(3)", ".(3)"),
        ("\\left.x\\right|", "x |"),
        ("-2\\\\[4pt]-14", "- 2 \\\\ - 14"),
        ("2\\\\-14", "2 \\\\ - 14"),
        ("$18", "$ 18"),
        ("$18$", "18"),
        ("\\text{5 cm}.", "5 cm"),
    ],
)
def test_tokens(text, tokens):
    assert " ".join(seen(text)) == tokens


def test_a_plain_blank_parts_thousands_where_that_is_asked_for():
    assert seen("1 000 000", loose=True) == ["1000000"]
    assert seen("1 00", loose=True) == ["1", "00"]


def test_words_are_told_from_names():
    assert [token.kind for token in latex.tokens("x\\text{ or }y")] == ["name", "word", "name"]
    assert [token.kind for token in latex.tokens("\\mathbf{v}")] == ["name"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("A, B, and C", "a,b,c"),
        ("Rock and Roll", "rock,roll"),
        ("4210_{5}", "4210_5"),
        ("\\text{4:30 p.m.}", "4:30p.m"),
        ("north–east", "north-east"),
        ("a  b", "a b"),
    ],
)
def test_plain_text(text, plain):
    assert texts.in_one_spelling(latex.tokens(text)) == plain


def test_fractions_of_other_numbers_are_other_texts():
    assert texts.in_one_spelling(latex.tokens("\\frac{1}{23}")) != texts.in_one_spelling(
        latex.tokens("\\frac{12}{3}")
    )
