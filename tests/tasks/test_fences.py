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


BLOCK = f"```python\n{SOLUTION}```"
USAGE = {
    "an import": "from solution import f\nprint(f(1))",
    "an import of all": "import your_module\nprint(your_module.f(1))",
    "asserts": "from main import f\nassert f(1) == 2",
    "unittest": "import unittest\nfrom main import f\nclass T(unittest.TestCase):\n    def test_f(self):\n"
    "        self.assertEqual(f(1), 2)\nunittest.main()",
    "a session": ">>> f(1)\n2",
    "input": "n = int(input())\nprint(f(n))",
    "a loop over it": "for f in [f]:\n    print(f(1))",
    "a file of its name": "with open('x') as f:\n    print(f.read())",
    "itself": "f = f\nprint(f(1))",
    "a stub": 'def f(x):\n    """Adds."""\n    ...',
    "a part that is none": "def f(x):\n    if x: (as above)",
    "a number": "f = 1",
}


@pytest.mark.parametrize("kind", USAGE)
def test_how_the_solution_is_used_is_no_solution(kind):
    for parts in ((SOLUTION, USAGE[kind]), (USAGE[kind], SOLUTION)):
        answer = "\n\nThen:\n\n".join(f"```python\n{part}\n```" for part in parts)
        assert fences.code_in(answer, "f").strip() == SOLUTION.strip()


def test_another_language_is_another_program():
    for other in ("```js\nf = x => x + 1\n```", "```text\n2\n```", "```bash\npython f.py\n```"):
        assert fences.code_in(f"{BLOCK}\n{other}", "f") == SOLUTION


AMONG_WORDS = {
    "words before": f"Here it is:\n\n{SOLUTION}",
    "words behind": f"{SOLUTION}\nIt adds one, that's all.",
    "an indented block": "So:\n\n    def f(x):\n        return x + 1\n\nDone.",
    "a closing fence behind code": "```python\ndef f(x):\n    return x + 1```\nDone.",
    "code behind the fence": "```def f(x):\n    return x + 1\n```",
    "one line": "```python def f(x): return x + 1```",
    "within words": "It is `def f(x): return x + 1`.",
    "a fence that closes too short": f"````python\n{SOLUTION}```\n",
    "a fence that never closes": f"```python\n{SOLUTION}\nThis adds one.",
    "another sign closes": f"```python\n{SOLUTION}~~~\nThis adds one.",
    "html": f"<pre><code class='python'>{SOLUTION}</code></pre>",
    "html's signs": "<pre>def f(x):\n    return x + 1 if x &lt; 9 else x\n</pre>",
    "a tag": f"<answer>\n{SOLUTION}</answer>",
    "brackets": f"[PYTHON]\n{SOLUTION}[/PYTHON]",
    "LaTeX": f"\\begin{{verbatim}}\n{SOLUTION}\\end{{verbatim}}",
    "its language first": f"python\n{SOLUTION}",
    "its language in the fence": f"```\npython\n{SOLUTION}```",
    "a session": ">>> def f(x):\n...     return x + 1\n...\n>>> f(1)\n2",
    "numbers": "```\n1 | def f(x):\n2 |     return x + 1\n```",
    "a notebook": f"```python\n!pip install so\n{SOLUTION}```",
    "tabs": "```python\ndef f(x):\n\treturn x + 1\n```",
    "wide blanks": "```python\ndef f(x):\n\u3000return x + 1\n```",
    "a margin": "```python\n    def f(x):\n        return x + 1\n```",
    "the end of a turn": f"```python\n{SOLUTION}```<|im_end|>",
    "a docstring with a fence": "```\ndef f(x):\n    '''A\n```\nf(1)\n```\n    '''\n    return x + 1\n```",
}


@pytest.mark.parametrize("kind", AMONG_WORDS)
def test_code_is_found_among_words(kind):
    names = {}
    exec(fences.code_in(AMONG_WORDS[kind], "f"), names)
    assert names["f"](1) == 2


@pytest.mark.parametrize(
    "answer",
    [
        "def g(x) return 1\n\ndef f(x):\n    return x + 1\n",
        "```python\ndef f(x):\n    return “x”\n```",
        "```python\ndef f(x):\n    return x − 1\n```",
        "def f(x) adds one",
        "f(x) = x + 1",
    ],
)
def test_what_is_no_python_stays_so(answer):
    with pytest.raises((SyntaxError, NameError)):
        exec(fences.code_in(answer, "f"), {})


def test_imports_of_the_reply_s_own_files_and_the_future_are_joined():
    head = "from __future__ import annotations\nfrom helpers import g\n"
    parts = ["def g(x):\n    return x + 1", f"{head}def f(x):\n    return g(x)"]
    names = {}
    exec(fences.code_in("\nand\n".join(f"```python\n{part}\n```" for part in parts), "f"), names)
    assert names["f"](1) == 2


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


@pytest.mark.parametrize(
    "part",
    ["> ", "- ", "```py\n", "~~~\n", "1. ", "\t", "a: ", "```` ", "(", "`", "def f(\n", "@a\n", "x```\n"],
)
def test_any_text_is_read_in_time(part):
    begin = time.process_time()
    fences.code_in((part * 4000)[:8000], "f")
    fences.code_in((part * 4000)[:7990] + "\n```py\nx", "f")
    assert time.process_time() - begin < 2
