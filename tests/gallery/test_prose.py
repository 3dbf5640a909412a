import pytest

from gallery.prose import to_html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# A card", "<h3>A card</h3>"),
        ("one\ntwo\n\nthree", "<p>one two</p>\n<p>three</p>"),
        ("- a\n- **b**", "<ul><li>a</li><li><strong>b</strong></li></ul>"),
        ("`x < y`", "<p><code>x &lt; y</code></p>"),
        ("```\n<b>\n```", "<pre><code>&lt;b&gt;</code></pre>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("```\nopen", "<p>open</p>"),
        ("![a < b](https://elsewhere.example/a.png)", "<p>a &lt; b</p>"),
        ("see ![a](plot.png)", "<p>see ![a](plot.png)</p>"),
    ],
)
def test_cards_become_safe_html(text, html):
    assert to_html(text) == html


def test_only_pictures_of_the_release_are_shown():
    html = to_html("![F1](plot.png)\n![other](../plot.png)", {"plot.png": "/staff/releases/1/plot.png"})
    assert html == ('<figure><img src="/staff/releases/1/plot.png" alt="F1" loading="lazy"></figure>\n<p>other</p>')


def test_tables_have_their_head():
    html = to_html("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert "<thead><tr><th>a</th><th>b</th></tr></thead>" in html
    assert "<tbody><tr><td>1</td><td>2</td></tr></tbody>" in html
