"""Programs are read out of any fence, with the blocks that they need."""

import time

import pytest

from nomoat.tasks import fences

SOLUTION = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    "answer",
    [
        SOLUTION,
        f"```\n{SOLUTION}```",
        f"```py\n{SOLUTION}```",
        f"```Python\n{SOLUTION}```",
        f"```python3\n{SOLUTION}```",
        f"``` python \n{SOLUTION}```\nIt adds one.",
        f"~~~python\n{SOLUTION}~~~",
        f"````python\n{SOLUTION}````",
        f"```python\n{SOLUTION}",
        f"Here:\n\n```python title=a.py\n{SOLUTION}```",
        f"```python\n{SOLUTION}```".replace("\n", "\r\n"),
        f"```python\n{SOLUTION}```".replace("\n", "\r"),
        f"```python\n{SOLUTION}`````\nIt adds one.",
        f"Use it so:\n```python\nprint(f(1))\n```\nwith\n```python\n{SOLUTION}```",
        f"```python\n{SOLUTION}```\nFor example:\n```python\nprint(f(1))\n```",
        f"```python\ndef f(x): return 0\n```\nBetter:\n```python\n{SOLUTION}```",
        f"````markdown\nHere:\n```python\n{SOLUTION}```\nDone.\n````",
        f"~~~\n```python\n{SOLUTION}```\n~~~",
        f"```markdown\nHere:\n```python\n{SOLUTION}```\nDone.\n```",
        "1. ```python\n   def f(x):\n       return x + 1\n   ```",
        f"1. ```python\n{SOLUTION}```",
        "- ```python\n  def f(x):\n      return x + 1\n  ```",
        "* so:\n\n    ```python\n    def f(x):\n        return x + 1\n    ```",
        "> ```python\n> def f(x):\n>     return x + 1\n> ```\nas you said",
        "> > ```python\n> > def f(x):\n> >     return x + 1\n\nas you said",
        f"> ```python\n{SOLUTION}```",
        "\t```python\n\tdef f(x):\n\t    return x + 1\n\t```",
        f"```python\n{SOLUTION}``` That adds one.",
        f"```python\n{SOLUTION}```.",
        f"Answer: ```python\n{SOLUTION}```",
        f"The solution is:```python\n{SOLUTION}```",
        f"```{{.python .numberLines}}\n{SOLUTION}```",
        f"\ufeff```python\n{SOLUTION}```",
        "```python\ndef f(x):\n\u00a0\u00a0\u00a0 return x + 1\n```",
        f"1. Write\n\n  ```python\n  {SOLUTION.replace(chr(10), chr(10) + '  ')}\n  ```",
    ],
)
def test_the_solution_is_found(answer):
    assert fences.code_in(answer, "f").strip() == SOLUTION.strip()


def test_a_fence_in_a_docstring_is_part_of_the_program():
    code = 'def f(x):\n    """Adds.\n\n    ```\n    f(1) == 2\n    ```\n    """\n    return x + 1\n'
    assert fences.code_in(f"```python\n{code}```\nSo it is.", "f") == code


def test_a_body_keeps_its_blanks():
    assert fences.code_in("```python\n    return x + 1\n```", "f") == "    return x + 1\n"


NEEDED = {
    "a helper before": ["def g(x):\n    return x + 1", "def f(x):\n    return g(x)"],
    "a helper behind": ["def f(x):\n    return g(x)", "def g(x):\n    return x + 1"],
    "a helper's helper": ["ONE = 1", "def g(x):\n    return x + ONE", "def f(x):\n    return g(x)"],
    "an import": ["from operator import add as g", "def f(x):\n    return g(x, 1)"],
    "the second of two": ["def g(x):\n    return 0", "def g(x):\n    return x + 1", "def f(x): return g(x)"],
}


@pytest.mark.parametrize("kind", NEEDED)
def test_blocks_that_a_program_needs_are_joined_in_order(kind):
    parts = ["print(f(1) / 0)", *NEEDED[kind], "print(f(1) / 0)"]
    code = fences.code_in("\nthen\n".join(f"```python\n{part}\n```" for part in parts), "f")
    names = {}
    exec(code, names)
    assert names["f"](1) == 2


def test_a_block_that_is_not_needed_is_not_joined():
    code = fences.code_in(
        "```python\ndef g(x): return 0\n```\n```python\ndef f(x, g=1): return x + g\n```", "f"
    )
    assert code == "def f(x, g=1): return x + g\n"


@pytest.mark.parametrize("part", ["> ", "- ", "```py\n", "~~~\n", "1. ", "\t", "a: ", "```` ", "(", "`"])
def test_any_text_is_read_in_time(part):
    begin = time.process_time()
    fences.code_in((part * 4000)[:4000], "f")
    fences.code_in((part * 4000)[:3990] + "\n```py\nx", "f")
    assert time.process_time() - begin < 2
