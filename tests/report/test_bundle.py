"""Modules of JavaScript become one script that does the same."""

import pytest

from nomoat.report.bundle import bundle


def written(root, **files):
    for name, text in files.items():
        (root / f"{name}.js").write_text(text)
    return root / "main.js"


def test_each_module_is_there_once_behind_what_it_needs(tmp_path):
    entry = written(
        tmp_path,
        main='import { one, two as deux } from "./a.js";\n'
        'import * as b from "./b.js";\none(deux, b.three);\n',
        a='import three from "./b.js";\nexport const one = (x) => x;\nexport async function two() {}\n',
        b="const three = 3;\nexport { three };\nexport default three;\n",
    )
    script = bundle(entry)
    assert script.index("const three = 3") < script.index("const one") < script.index("one(deux, b.three)")
    assert script.count("const three = 3") == 1
    assert "const {one, two: deux } = module1;" in script.replace("{ one", "{one")
    assert "return { three, default: three };" in script
    assert not [line for line in script.splitlines() if line.startswith(("import", "export"))]


@pytest.mark.parametrize(
    "text",
    [
        'import "./a.js";\n',
        'export * from "./a.js";\n',
        'import { x }\nfrom "./a.js";\n',
        "export default function () {}\n",
        'const x = "</script>";\n',
    ],
)
def test_what_it_does_not_know_is_an_error(tmp_path, text):
    with pytest.raises(ValueError, match="main.js"):
        bundle(written(tmp_path, main=text, a="export const x = 1;\n"))


def test_a_circle_is_an_error(tmp_path):
    entry = written(tmp_path, main='import { x } from "./a.js";\n', a='import { y } from "./main.js";\n')
    with pytest.raises(ValueError, match="imports itself"):
        bundle(entry)
