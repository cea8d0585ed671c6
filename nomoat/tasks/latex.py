r"""The tokens of an answer in LaTeX or plain text: numbers, names, signs, and what only adds looks left out.

One pass from left to right.  A command and its Unicode sign give one token (`\geq`, `\ge`, `≥`), so do a
minus and an en dash; x² is x^{2}, ½ is \frac{1}{2}.  A number is one token, with its separators of thousands
taken out: `1,000` outside brackets alone, `1{,}000`, `1,\!000`, `1\,000`, `1~000` and the like anywhere.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from nomoat.tasks.spellings import spelled_out

# What a command is called here: a sign, or "" for what is only looks.
COMMANDS = {
    "binom": "binom", "dbinom": "binom", "tbinom": "binom",
    "frac": "frac", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sqrt": "√",
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "±", "mp": "∓", "colon": ":",
    "le": "≤", "leq": "≤", "leqslant": "≤", "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">",
    "ne": "≠", "neq": "≠", "in": "∈", "cup": "∪",
    "bigcup": "∪", "cap": "∩", "infty": "∞", "pi": "π", "emptyset": "∅",
    "varnothing": "∅", "setminus": "∖", "backslash": "∖", "langle": "⟨", "rangle": "⟩", "lvert": "|",
    "rvert": "|", "vert": "|", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉",
     "mid": "|", "degree": "°", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[",
    "rbrack": "]", "cr": r"\\", "newline": r"\\", "land": "and", "lor": "or", "euro": "€", "pounds": "£",
    "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "bigg": "",
    "displaystyle": "", "textstyle": "", "limits": "", "hline": "", "quad": "", "qquad": "", "thinspace": "",
    "vec": "", "hat": "",
}  # fmt: skip
SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-",
    "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "⁄": "/", "≤": "≤",
    "⩽": "≤", "≥": "≥", "⩾": "≥", "º": "°", "˚": "°",
    "；": ";", "，": ",", "**": "^", "<=": "≤", ">=": "≥", "!=": "≠",
    r"\%": "%", "⋃": "∪", "⟨": "⟨", "＝": "=",
}  # fmt: skip
GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ",
    "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
INFINITE = ("infinity", "infty", "inf", "unendlich")
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿˣ", "0123456789-+nx", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
SMALL = str.maketrans({**SUPERSCRIPTS, **SUBSCRIPTS})
SMALL_FRACTION = re.compile("(?<![^\\W\\d])(?<![)}])([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)")
# Between thousands; no two of them begin alike, so that there is one way to read a row of them.
THIN = r"(?:,\s?\\!\s?|\{,\}|\\[,;: ]|\\!,|[~\u00a0\u2009\u202f]|['’](?=[0-9]{3}(?![0-9])))"
BLANK_MARK = "(?: (?=[0-9]{3}(?![0-9])))"
# Numbers of three digits with plain blanks between them, three and more: a list, not one number.
BLANK_LIST = re.compile(r"[1-9][0-9]{2}(?: [1-9][0-9]{2}){2,}")
POINTS = {"en": (r"\.", ","), "de": ("[.,]", r"\.")}  # of decimals, and between thousands
BLANK = re.compile(
    r"(?:\s|(?<=[^\s$=(\[{<>≤≥])~|(?<=\{)~(?=[a-zA-Z])"
    r"|\\[,;:!> ]|[\u00a0\u2009\u202f\u2002\u2003\u2007])+"
)
STYLE = re.compile(
    r"\\(?:(?P<words>text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|hbox)"
    r"|math(?:bf|bb|cal|it|sf)|boldsymbol|operatorname|underline)(?![a-zA-Z])\s*\{"
)
CIRCLE = re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\circ\s*\})|°")
SCALE = re.compile(rf"(?:{CIRCLE.pattern})\s*(?:\\(?:text|mathrm)\s*\{{)?\s*([CF])(?![a-zA-Z])\}}?")
ENVIRONMENT = re.compile(
    r"\\(begin|end)\s*\{(B?[a-z]+)\*?\}(?:(?<=\{array\})\s*\{[^{}]*\}|(?<=\*\})\s*\[[lcr]\])?"
)
ROW = re.compile(r"\\\\(?:\s*\[[^\[\]]{0,12}\])?")
COMMAND = re.compile(r"\\([a-zA-Z]+)")
NO_BRACKET = re.compile(r"\s*\.")  # \left.
OPENING, CLOSING = ("(", "[", r"\{"), (")", "]", r"\}")
NAME = re.compile(r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u052f]+")
REPEATED = (
    r"\\(?:overline|bar|dot)\s*\{?\s*(?P<line>[0-9]+)\s*\}?|\((?P<round>[0-9]+)\)|(?P<bars>(?:[0-9]\u0305)+)"
)
POWER_OF_TEN = r"(?P<e>[eE][-+]?[0-9]{1,3}(?![0-9a-zA-Z]))?"
REPEATS = r"(?=\\(?:overline|bar|dot)\s*\{?\s*[0-9]|\([0-9]+\)|[0-9]\u0305)"  # what comes next does
WHOLE = r"(?P<whole>[1-9][0-9]{0,2}(?:%s[0-9]{3})+(?![0-9]|%s[0-9])|[0-9]+|(?=%s(?:[0-9]|" + REPEATS + ")))"
PART = r"(?P<part>%s(?:[0-9]+(?!\u0305)|" + REPEATS + "))?"
DIGITS = re.compile(r"(\d*)(?:\.(\d*))?(?:\((\d+)\))?(?:e([-+]?\d+))?")
END = rf"(?(part)(?:{REPEATED})?)" + POWER_OF_TEN


@functools.cache
def numeral(group: str, point: str) -> re.Pattern:
    return re.compile(WHOLE % (group, group, point) + PART % point + END)


class Token(NamedTuple):
    """`kind`: "number", "name", "word" (a name in \\text{…}) or "sign"; `space`: a blank stood before it."""

    kind: str
    text: str
    space: bool = False


class Lexer:
    """The tokens of one text; `loose` also takes a plain blank for a separator of thousands."""

    def __init__(self, text: str, lang: str, loose: bool) -> None:
        self.text = text
        self.at = 0
        self.space = False
        self.groups: list[str] = []  # the brackets that are open: "(", "[", "{" of a set, "" of a group
        # Where each \text{ or \mathbf{ began: how many were open, and whether it is one of words.
        self.styles: list[tuple[int, bool]] = []
        self.money = text.replace(r"\$", "").count("$") % 2 == 1
        point, comma = POINTS[lang]
        marks = f"{THIN}|{BLANK_MARK}" if loose else THIN
        self.inside = numeral(f"(?:{marks})", point)
        self.outside = numeral(f"(?:{marks}|{comma})", point)

    def tokens(self) -> Iterator[Token]:
        while self.at < len(self.text):
            if blank := self.match(BLANK):
                self.space = self.space or blank[0] not in (r"\!",)
                continue
            before = self.at
            for token in self.next():
                yield token._replace(space=self.space or token.space)
                self.space = False
            self.at = max(self.at, before + 1)

    def match(self, pattern: re.Pattern) -> re.Match | None:
        if match := pattern.match(self.text, self.at):
            self.at = match.end()
        return match

    def next(self) -> Iterator[Token]:
        """The tokens of what comes next: one, as a rule."""
        char = self.text[self.at]
        if style := self.match(STYLE):
            self.styles.append((len(self.groups), bool(style["words"])))
            self.groups.append("")
            self.space = True
        elif scale := self.match(SCALE):
            yield Token("name", {"C": "celsius", "F": "fahrenheit"}[scale[1]], True)
        elif self.match(CIRCLE):
            yield Token("sign", "°")
        elif number := self.match(self.inside if any(self.groups) else self.outside):
            yield Token("number", written(number))
        elif name := self.match(NAME):
            yield from self.named(name[0])
        elif char == "\\":
            yield from self.command()
        elif char in SUPERSCRIPTS or char in SUBSCRIPTS:
            yield from self.raised()
        else:
            yield from self.sign()

    def named(self, name: str) -> Iterator[Token]:
        upright = name in ("i", "e")  # numbers, also where they are set as text
        kind = "word" if not upright and any(words for _, words in self.styles) else "name"
        name = {"pi": "π", "Pi": "π"}.get(name) or ("∞" if name.lower() in INFINITE or name == "oo" else name)
        for piece in re.split("([π∞])", name):
            if piece:
                yield Token("sign" if piece in "π∞" else kind, piece)

    def command(self) -> Iterator[Token]:
        if environment := self.match(ENVIRONMENT):
            yield Token("sign", f"{environment[1]} {environment[2].lstrip('pbB')}")
        elif self.match(ROW):
            yield Token("sign", r"\\")
        elif name := self.match(COMMAND):
            sign = COMMANDS.get(name[1], name[1])
            if name[1] in ("left", "right"):
                self.match(NO_BRACKET)
            yield from self.called(name[1], sign)
        elif self.text.startswith((r"\{", r"\}"), self.at):
            yield from self.bracket(self.text[self.at : self.at + 2])
        elif self.text.startswith((r"\(", r"\)", r"\[", r"\]"), self.at):  # marks of mathematics
            self.at += 2
            self.space = True
        elif self.text.startswith(r"\$", self.at):
            self.at += 2
            yield Token("sign", "$")
        else:
            yield from self.sign()

    def called(self, name: str, sign: str) -> Iterator[Token]:
        if sign in (r"\{", r"\}", "[", "]"):
            self.at -= len(sign)
            yield from self.bracket(sign)
        elif sign:
            yield Token("sign" if name in COMMANDS else "name", GREEK.get(name, sign))

    def raised(self) -> Iterator[Token]:
        """x² as x^{2}, x₁ as x_{1}, ²⁄₃ and ²/₃ as \\frac{2}{3}."""
        if parts := self.match(SMALL_FRACTION):
            small = parts[1].translate(SMALL), parts[2].translate(SMALL)
            yield from fraction("⁄".join(small))
            return
        above = self.text[self.at] in SUPERSCRIPTS
        table = SUPERSCRIPTS if above else SUBSCRIPTS
        digits = ""
        while self.at < len(self.text) and self.text[self.at] in table:
            digits += table[self.text[self.at]]
            self.at += 1
        yield Token("sign", "^" if above else "_")
        yield Token("sign", "{")
        for part in re.findall("[0-9]+|[^0-9]", digits):
            kind = "number" if part.isdigit() else "sign"
            yield Token("name" if part == "n" else kind, part)
        yield Token("sign", "}")

    def sign(self) -> Iterator[Token]:
        char = self.text[self.at]
        two = self.text[self.at : self.at + 2]
        if char in "()[]{}":
            yield from self.bracket(char)
        elif char == "$":
            self.at += 1
            if self.money:
                yield Token("sign", "$")
            self.space = True
        elif "VULGAR FRACTION" in unicodedata.name(char, ""):
            yield from fraction(unicodedata.normalize("NFKC", char))
            self.at += 1
        else:
            self.at += 2 if two in SIGNS else 1
            yield Token("sign", SIGNS.get(two) or SIGNS.get(char, char))

    def bracket(self, sign: str) -> Iterator[Token]:
        """A bracket; a brace that opens or closes \\text{} gives no token."""
        opens = sign[-1] in "([{"
        before = self.text[max(0, self.at - 24) : self.at].rstrip()
        self.at += len(sign)
        if opens:
            grouping = sign == "{" and (re.search(r"[\^_}\]]$|\\[a-zA-Z]+$", before) is not None)
            self.groups.append("" if grouping else sign)
        elif self.groups:
            self.groups.pop()
            if self.styles and self.styles[-1][0] == len(self.groups):
                self.styles.pop()
                self.space = True
                return
        yield Token("sign", sign)


def fraction(sign: str) -> Iterator[Token]:
    yield Token("sign", "frac")
    for part in sign.split("⁄"):
        yield from (Token("sign", "{"), Token("number", part), Token("sign", "}"))


def written(number: re.Match) -> str:
    """The number in one spelling: 1234.5, 0.(3), 2e-3."""
    whole = re.sub("[^0-9]", "", number["whole"])
    part = re.sub("[^0-9]", "", number["part"] or "")
    repeated = number["line"] or number["round"] or (number["bars"] or "").replace("\u0305", "")
    point = "." if number["part"] else ""
    return f"{whole}{point}{part}{f'({repeated})' if repeated else ''}{(number['e'] or '').lower()}"


def worth(numeral: str) -> Fraction:
    """The value of a number as `written` writes it."""
    whole, part, repeated, e = DIGITS.fullmatch(numeral).groups("")
    value = Fraction(int(f"{whole}{part}" or 0), 10 ** len(part))
    if repeated:
        value += Fraction(int(repeated), 10 ** len(part) * (10 ** len(repeated) - 1))
    return value * Fraction(10) ** int(e or 0)


def tokens(text: str, lang: str = "en", loose: bool = False) -> list[Token]:
    r"""All tokens, arguments of \frac and \sqrt in braces, without one full stop at the end."""
    found = list(Lexer(spelled_out(text), lang, loose).tokens())
    if found and found[-1][1] == "." and (len(found) < 2 or found[-2][1] != "."):
        found.pop()
    return braced([united(found, i) for i in range(len(found))])


def united(found: list[Token], i: int) -> Token:
    """The token; a U between brackets is ∪, `in` after a letter and before a bracket ∈."""
    token = found[i]
    if token.text not in ("U", "in") or not 0 < i < len(found) - 1:
        return token
    before, after = found[i - 1], found[i + 1]
    if after.text not in OPENING:
        return token
    if token.text == "U" and before.text in CLOSING:
        return token._replace(kind="sign", text="∪")
    if token.text == "in" and before.kind == "name":
        return token._replace(kind="sign", text="∈")
    return token


def braced(found: list[Token]) -> list[Token]:
    r"""\frac12 as \frac{1}{2}, \sqrt2 as \sqrt{2}: without braces, an argument is one digit or one token."""
    rest, done = found[::-1], []
    while rest:
        token = rest.pop()
        done.append(token)
        if token.text in ("frac", "binom") and token.kind == "sign":
            for _ in range(2):
                argument(rest, done)
    return done


def argument(rest: list[Token], done: list[Token]) -> None:
    if not rest:
        return
    token = rest.pop()
    if token.text == "{":
        depth = 1
        done.append(token)
        while rest and depth:
            token = rest.pop()
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            done.append(token)
        return
    letters = token.kind == "name" and token.text not in ("sin", "cos", "tan", "log", "ln")
    if len(token.text) > 1 and (letters or (token.kind == "number" and token.text.isdigit())):
        rest.append(token._replace(text=token.text[1:], space=False))
        token = token._replace(text=token.text[0])
    done += [Token("sign", "{"), token, Token("sign", "}")]
