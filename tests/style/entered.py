"""A plugin of pytest: which functions of the package each test entered, as JSON, to the path in $ENTERED."""

import json
import os
import sys
from pathlib import Path

import pytest

import nomoat

PACKAGE = f"{Path(nomoat.__file__).parent}/"
ENTERED: dict[str, set[str]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    seen = ENTERED.setdefault(item.nodeid.partition("[")[0], set())

    def hook(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            name = frame.f_code.co_qualname.replace(".<locals>", "")
            seen.add(f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{name}")

    sys.setprofile(hook)
    try:
        return (yield)
    finally:
        sys.setprofile(None)


def pytest_sessionfinish():
    Path(os.environ["ENTERED"]).write_text(json.dumps({test: sorted(seen) for test, seen in ENTERED.items()}))
