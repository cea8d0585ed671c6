"""The pages open in a browser, with nothing from elsewhere."""

import pytest

pytestmark = pytest.mark.check
FORBIDDEN = {
    "a request to others": "fetch('http://127.0.0.1:9/').catch(() => 0)",
    "text that becomes HTML": "try { document.body.innerHTML = '<p>' } catch { 0 }",
    "a script of its own": """{
        const script = document.createElement("script");
        script.append("window.ran = true");
        document.body.append(script);
    }""",
    "a style in the markup": "document.body.setAttribute('style', 'color: red')",
}


@pytest.mark.parametrize("path", ["/", "/lab"])
def test_a_page_opens_without_an_error_and_asks_nobody_else(visit, path):
    page = visit(path)
    page.wait_for_load_state("networkidle")
    assert page.locator("main").is_visible()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_no_page_may_do_is_refused_and_noticed(visit, watch, what):
    page = visit("/")
    page.wait_for_load_state("networkidle")
    assert not watch.errors
    page.evaluate(f"() => {{ {FORBIDDEN[what]} }}")
    page.wait_for_function("true")
    assert "Content Security Policy" in " ".join(watch.errors) or "Trusted" in " ".join(watch.errors)
    assert page.evaluate("window.ran") is None
    watch.errors.clear()
    watch.offsite.clear()
