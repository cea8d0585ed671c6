"""The grammar of answers: one text's tokens, read from left to right by recursive descent.

    answer     item {(,|;|and|or) item}
    item       side {(=|<|≤|>|≥|≠|∈) side}          read twice, for + and for -, where it holds ±
    side       union {: union}                      a ratio, a time
    union      without {∪ without}
    without    sum {∖ sum}
    sum        [+|-|±] term {(+|-|±) factor}
    term       factor {[*|/] factor}                without a sign before letters, roots, brackets
    factor     primary {%|°|!} [^ exponent]
    primary    number, letter, f(x), fraction, binomial, root, |sum|, matrix, answer in brackets

Every text has a budget of steps and a greatest depth; beyond them, and for all else, `Unread` is raised.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

from nomoat.tasks import lists
from nomoat.tasks.formulas import RELATIONS, Answer, Formula, Several, atom, key_of, number
from nomoat.tasks.latex import Token
from nomoat.tasks.numerals import Numerals
from nomoat.tasks.values import ONE, PI, Unread, Value

GREEK_LETTERS = "αβγδθλπφω"  # behind which a letter after a blank is a factor
MAX_PARTS = 40  # values side by side
MAX_STEPS = 4000  # factors that are read
MAX_EXPONENT = 64
SEPARATORS = (",", ";", "and", "or", "und", "oder")
TURNED = {">": "<", "≥": "≤"}
CLOSERS = {"(": ")]", "[": ")]", r"\{": (r"\}", "}"), "{": ("}", r"\}"), "⟨": "⟩"}
MATRICES = ("begin matrix", "begin array", "begin smallmatrix")
WHOLES = {"⌊": "⌋", "⌈": "⌉"}  # the greatest whole number below, the least above
FACTORS = ("(", "π", "√", "frac", *WHOLES)  # signs that a factor begins with
FUNCTIONS = ("sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "log", "ln", "exp")
LETTERS = ("∞", "∅", "ℤ", "ℚ", "ℕ", "ℂ")  # signs that stand for one thing
MAX_LETTERS = 3  # that a run of them is a product, as in 3qr; longer ones are words


class Reader(Numerals):
    """`mark` is the sign that ± stands for now, `marked` whether one was read."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__(tokens)
        self.steps, self.mark, self.marked = 0, 1, False
        self.joints: set[str] = set()  # what stood between the last items

    def whole(self) -> Answer:
        """All of the text."""
        parts = self.items()
        if self.at != len(self.tokens):
            raise Unread
        if self.joints and self.joints <= {"or", "oder"}:
            return lists.either(parts)
        if self.joints <= {",", "and", "und"} and (both := lists.both(parts)):
            return both
        return lists.several(parts)

    def items(self) -> list[Answer]:
        parts, joints = [self.deeper(self.item)], set()
        while joint := self.take(*SEPARATORS):
            joints.add(self.take("and", "or", "und", "oder") or joint)  # 1, 2, and 3
            parts.append(self.deeper(self.item))
        if len(parts) > MAX_PARTS:
            raise Unread
        self.joints = joints
        return parts

    def item(self) -> Answer:
        """One value, or the two that ± makes of it."""
        outer, start = (self.mark, self.marked), self.at
        self.mark, self.marked = 1, False
        value = self.relation()
        if self.marked:
            self.at, self.mark = start, -1
            value = Several("±", (value, self.relation()))
        self.mark, self.marked = outer
        return value

    def relation(self) -> Answer:
        sides, signs = [self.ratio()], []
        while sign := self.take(*RELATIONS):
            signs.append(sign)
            sides.append(lists.set_named(self.ratio()) if sign == "∈" else self.ratio())
        if not signs:
            return sides[0]
        if set(signs) <= TURNED.keys():
            sides.reverse()
            signs = [TURNED[sign] for sign in reversed(signs)]
        return Several("".join(signs), tuple(sides))

    def ratio(self) -> Answer:
        return self.chain(":", self.union)

    def union(self) -> Answer:
        return self.chain("∪", self.without)

    def without(self) -> Answer:
        value = self.sum()
        while self.take("∖"):
            value = lists.without(value, self.sum())
        return value

    def chain(self, sign: str, part: Callable[[], Answer]) -> Answer:
        parts = [part()]
        while self.take(sign):
            parts.append(part())
        return Several(sign, tuple(parts)) if len(parts) > 1 else parts[0]

    def sum(self) -> Answer:
        value = self.term()
        while sign := self.take("+", "-", "±", "∓"):
            value = self.algebra.plus(value, self.term(), self.sign(sign))
        return value

    def sign(self, sign: str) -> int:
        if sign in ("±", "∓"):
            self.marked = True
            return self.mark if sign == "±" else -self.mark
        return -1 if sign == "-" else 1

    def term(self) -> Answer:
        value = self.signed()
        while True:
            if self.take("/"):
                value = self.algebra.over(value, self.signed())
            elif self.take("*") or self.crossed():
                value = self.algebra.times(value, self.signed())
            elif self.follows():
                value = self.algebra.times(value, self.factor())
            else:
                return value

    def crossed(self) -> bool:
        """Whether an x between numbers was taken for the sign of multiplication."""
        last, now, then = self.ahead(-1), self.ahead(), self.ahead(1)
        if now.text == "x" and last.kind == then.kind == "number":
            self.at += 1
            return True
        return False

    def follows(self) -> bool:
        """Whether a factor without a sign comes: 2(3), 2π, 2√3, 2x, x(x+1), but but not (1/2)3."""
        token, last = self.ahead(), self.ahead(-1)
        if token.kind == "name" and token.text not in SEPARATORS:
            apart = last.kind == "name" and token.space
            return not apart or token.text in FUNCTIONS or last.text in GREEK_LETTERS or self.are_letters()
        if token.kind == "sign" and token.text in FACTORS:
            return True
        return self.at_matrix()

    def at_matrix(self) -> bool:
        """Whether a matrix comes, also in square brackets."""
        first = self.ahead(1) if self.ahead().text == "[" else self.ahead()
        return first.text in MATRICES

    def are_letters(self) -> bool:
        """Whether this name and the one before are single letters: x y, but neither a day nor I am."""
        return len(self.ahead(-1).text) == len(self.ahead().text) == 1

    def signed(self) -> Answer:
        sign = self.take("+", "-", "±", "∓")
        value = self.factor()
        return self.algebra.opposite(value) if sign and self.sign(sign) < 0 else value

    def factor(self) -> Answer:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Unread
        value = self.primary()
        while sign := self.take("%", "°", "!"):
            if sign == "%":
                value = self.percent(value)
            elif sign == "!":
                value = self.factorial(value)
        if self.take("^"):
            value = self.algebra.power(value, self.exponent(), MAX_EXPONENT)
        return value

    def percent(self, value: Answer) -> Answer:
        if not isinstance(value, Formula) or (plain := value.number()) is None:
            raise Unread
        return number(self.algebra.numbers.scaled(plain, Fraction(1, 100)))

    def factorial(self, value: Answer) -> Answer:
        if self.ahead().text == "!":  # 7!!, another function
            raise Unread
        return self.algebra.factorial(value)

    def exponent(self) -> Answer:
        if self.take("{"):
            value = self.sum()
            self.expect("}")
            return value
        sign = self.take("-", "+")
        value = self.decimal() if self.ahead().kind == "number" else self.primary()
        return self.algebra.negative(value) if sign == "-" else value

    def primary(self) -> Answer:
        token = self.ahead()
        if token.kind == "number":
            return self.numeral()
        if token.kind == "name":
            return self.letters()
        if token.text in CLOSERS:
            return self.brackets()
        self.at += 1
        if token.text == "π":
            return number(Value(PI, ONE))
        if token.text == "ℝ":
            return lists.REALS
        if token.text in LETTERS:
            return atom("letter", token.text)
        if token.text == "frac":
            return self.algebra.over(self.argument(), self.argument())
        if token.text == "binom":
            return self.algebra.binomial(self.argument(), self.argument())
        if token.text == "|":
            return self.magnitude()
        if token.text in WHOLES:
            return self.rounded(token.text)
        if token.text == "√":
            return self.rooted()
        if token.text in MATRICES:
            return Several("matrix", self.rows(token.text.replace("begin", "end"), self.sum))
        if token.text == "begin cases":
            rows = self.rows("end cases", self.relation)
            alone = all(len(row.parts) == 1 for row in rows)
            return Several("{}", tuple(row.parts[0] for row in rows)) if alone else Several("cases", rows)
        raise Unread

    def brackets(self) -> Answer:
        opened = self.take(*CLOSERS)
        start, marked = self.at, self.marked
        if opened == "(":  # (-1 ± √5)/2: one value, whose ± belongs to what is around it
            value = self.deeper(self.relation)
            if self.take(")"):
                return value
            self.at, self.marked = start, marked
        if opened in (r"\{", "{") and self.take(r"\}", "}"):
            return atom("letter", "∅")
        parts = self.items()
        closed = self.expect(*CLOSERS[opened])
        kind = (opened + closed).replace("\\", "")
        if kind == "{}":
            return lists.in_set(parts)
        if len(parts) == 1 and isinstance(parts[0], Several) and parts[0].kind == "matrix":
            return parts[0]
        if len(parts) == 1:
            raise Unread
        if kind == "()" and (chosen := lists.of_sign(parts, self.mark)):
            parts, self.marked = chosen, True
        return Several(kind, tuple(parts))

    def magnitude(self) -> Answer:
        value = self.deeper(self.sum)
        self.expect("|")
        return self.algebra.magnitude(value)

    def rounded(self, opened: str) -> Answer:
        value = self.deeper(self.sum)
        self.expect(WHOLES[opened])
        return self.algebra.rounded(opened, value)

    def argument(self) -> Answer:
        self.expect("{")
        value = self.sum()
        self.expect("}")
        return value

    def rooted(self) -> Answer:
        index = 2
        if self.take("["):
            index = self.sum()
            self.expect("]")
            index = index.whole() if isinstance(index, Formula) else None
            if index not in range(2, 10):
                raise Unread
        if self.ahead().kind == "number":
            return self.algebra.root(self.decimal(), index)
        return self.algebra.root(self.argument() if self.ahead().text == "{" else self.primary(), index)

    def rows(self, end: str, cell: Callable[[], Answer]) -> tuple[Several, ...]:
        rows = []
        while not self.take(end):
            cells = [self.deeper(cell)]
            while self.take("&"):
                cells.append(self.deeper(cell))
            rows.append(Several("row", tuple(cells)))
            if self.ahead().text != end:
                self.expect(r"\\")
            if len(rows) > MAX_PARTS or len(cells) > MAX_PARTS:
                raise Unread
        return tuple(rows)

    def letters(self) -> Answer:
        """A letter, a function of something, or a product of letters: the first of them."""
        token = self.ahead()
        name = token.text
        if name in ("sqrt", "frac"):
            self.at += 1
            return self.rooted()
        if name in FUNCTIONS:
            self.at += 1
            return self.function(name)
        if len(name) > MAX_LETTERS:
            raise Unread
        if len(name) > 1:
            rest = token._replace(text=name[1:], space=False)
            self.tokens = [
                *self.tokens[: self.at],
                token._replace(text=name[0]),
                rest,
                *self.tokens[self.at + 1 :],
            ]
        self.at += 1
        if name in ("f", "g", "h", "P", "Q") and self.ahead().text == "(":
            return atom("function", name, key_of(self.brackets()))
        if self.at == 1 and len(name) == 1 and self.ahead().text == "(":
            if (head := self.head(name)) is not None:
                return head
        letter = name[0]
        if self.take("_"):
            letter += f"_{key_of(self.exponent())}"
        return atom("letter", letter)

    def head(self, name: str) -> Answer | None:
        """p(x) of p(x) = …; None where no = follows: then it is a product."""
        here = self.at
        inside = self.brackets()
        if self.ahead().text == "=":
            return atom("function", name, key_of(inside))
        self.at = here
        return None

    def function(self, name: str) -> Answer:
        base = self.exponent() if self.take("_") else None
        exponent = self.exponent() if self.take("^") else None
        if self.ahead().text in CLOSERS:
            value = self.primary()
        else:
            value = self.factor()
            while (
                self.ahead().kind in ("name", "sign")
                and self.ahead().text not in FUNCTIONS
                and self.follows()
            ):
                value = self.algebra.times(value, self.factor())
        result = self.algebra.function(name, base, value)
        return result if exponent is None else self.algebra.power(result, exponent, MAX_EXPONENT)
