from __future__ import annotations

import pytest

from gallery.search import SearchError, nodes, parse, to_text
from gallery.search.fields import FIELDS


def _sketch(node: nodes.Node) -> str:
    """The tree with its structure shown: (and a (not b))."""
    if isinstance(node, nodes.And | nodes.Or):
        return f"({' '.join([type(node).__name__.lower(), *map(_sketch, node.children)])})"
    if isinstance(node, nodes.Not):
        return f"(not {_sketch(node.child)})"
    if isinstance(node, nodes.Metatag):
        return f"{node.name}[{node.value}]"
    return f"*{node.pattern}" if isinstance(node, nodes.Wildcard) else node.name


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", "(and)"),
        ("  \t ", "(and)"),
        ("a", "a"),
        ("A_B", "a_b"),
        ("a b", "(and a b)"),
        ("a b c", "(and a b c)"),
        ("a and b", "(and a b)"),
        ("a or b", "(or a b)"),
        ("a OR b Or c", "(or a b c)"),
        ("a b or c d", "(or (and a b) (and c d))"),
        ("a and b or c and d e", "(or (and a b) (and c d e))"),
        ("a (b or c) d", "(and a (or b c) d)"),
        ("(a b) c", "(and a b c)"),
        ("((a))", "a"),
        ("-a", "(not a)"),
        ("--a", "a"),
        ("- a", "(not a)"),
        ("-(a b)", "(not (and a b))"),
        ("-(-a)", "a"),
        ("-a -b", "(and (not a) (not b))"),
        ("~a", "a"),
        ("~a ~b", "(or a b)"),
        ("a ~b c ~d", "(and a (or b d) c)"),
        ("~-a ~b", "(or (not a) b)"),
        ("-~a ~b", "(or (not a) b)"),
        ("~(a b) ~c", "(or (and a b) c)"),
        ("~a ~b or c", "(or a b c)"),
        ("saber_(fate)", "saber_(fate)"),
        ("(saber_(fate))", "saber_(fate)"),
        ("-(a saber_(fate))", "(not (and a saber_(fate)))"),
        ("((a_(b) or c))", "(or a_(b) c)"),
        (":)", ":)"),
        ("(a or :))", "(or a :))"),
        ("re:zero", "re:zero"),
        (":d", ":d"),
        ("or_", "or_"),
        ("android", "android"),
        ("a*", "*a*"),
        ("*_(fate)", "**_(fate)"),
        ("(*_(fate) or *b)", "(or **_(fate) **b)"),
        ('-(wildcard:"*fate)" b)', "(not (and **fate) b))"),
        ("WILDCARD:*A", "**a"),
        ("rating:g,s", "rating[g,s]"),
        ("RATING:g", "rating[g]"),
        ("(rating:g)", "rating[g]"),
        ('source:"a b"', "source[a b]"),
        ("source:'a b' c", "(and source[a b] c)"),
        (r'source:"say \"hi\" \\"', r'source[say "hi" \]'),
        (r"source:a\ b c", "(and source[a b] c)"),
        ("source:x_(y)", "source[x_(y)]"),
        ("(user:a)", "user[a]"),
        ("ai:saber_(fate),>90%", "ai[saber_(fate),>90%]"),
        ("(ai:saber_(fate) b)", "(and ai[saber_(fate)] b)"),
        ("width:>=5 id:1,2,5..7", "(and width[>=5] id[1,2,5..7])"),
        ("order:id limit:5 a", "(and order[id] limit[5] a)"),
        ('tag:"or"', "or"),
        ("tag:x", "x"),
        ("fav:me pool:3", "(and fav[me] pool[3])"),
    ],
)
def test_text_parses_to_this_tree(text, tree):
    assert _sketch(parse(text)) == tree
    assert parse(to_text(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (nodes.all_of([nodes.Tag("a"), nodes.any_of([nodes.Tag("b"), nodes.Tag("c")])]), "a (b or c)"),
        (nodes.none_of(nodes.all_of([nodes.Tag("a"), nodes.Tag("b")])), "-(a b)"),
        (nodes.Tag("or"), "tag:or"),
        (nodes.Tag("-x"), "tag:-x"),
        (nodes.Tag("(o)_(o)"), 'tag:"(o)_(o)"'),
        (nodes.Tag("is:x"), "tag:is:x"),
        (nodes.Metatag("source", ""), 'source:""'),
        (nodes.Metatag("source", 'a "b" \\'), r'source:"a \"b\" \\"'),
        (nodes.EVERYTHING, ""),
        (nodes.all_of([nodes.Wildcard("*fate)"), nodes.Tag("a")]), 'wildcard:"*fate)" a'),
        (nodes.any_of([nodes.Wildcard("*_(fate)"), nodes.Wildcard("rating:*")]), "*_(fate) or wildcard:rating:*"),
        (nodes.none_of(nodes.any_of([nodes.Wildcard("*))"), nodes.Tag("b")])), '-(wildcard:"*))" or b)'),
        (nodes.none_of(nodes.any_of([nodes.Tag("b"), nodes.Tag(">:(")])), "-(b or >:( )"),
        (nodes.none_of(nodes.any_of([nodes.Tag("b"), nodes.Wildcard("x_(*")])), "-(b or x_(* )"),
    ],
)
def test_tree_prints_as_this_text(node, text):
    assert to_text(node) == text
    if node != nodes.Metatag("source", ""):
        assert parse(text) == node


def test_terms_know_where_they_stand():
    leaves = list(nodes.leaves(parse("a (-bc rating:g)")))
    assert [(leaf.position, leaf.length) for leaf in leaves] == [(0, 1), (4, 2), (7, 8)]


@pytest.mark.parametrize(
    ("text", "message", "position", "length"),
    [
        ("(a", "This ( is never closed: add a ) where the group ends.", 0, 1),
        ("a (b (c d)", "This ( is never closed: add a ) where the group ends.", 2, 1),
        ("a )", "This ) closes no group: remove it.", 2, 1),
        ("()", "There is no term before this ): add one, or remove it.", 1, 1),
        ("a -", "The search ends where a term should follow: add one.", 3, 0),
        ("a or", "The search ends where a term should follow: add one.", 4, 0),
        ("or a", '"or" needs a term on both sides: add one, or write tag:or for the tag.', 0, 2),
        ("a and and b", '"and" needs a term on both sides: add one, or write tag:and for the tag.', 6, 3),
        ("(a or) b", "There is no term before this ): add one, or remove it.", 5, 1),
        ('x source:"a', "This quotation mark is never closed: add one at the end.", 9, 1),
        (
            "a rating:safee",
            "rating:safee does not work: give one of general, sensitive, questionable, explicit, safe, none, any."
            " Did you mean safe?",
            2,
            12,
        ),
        ("width:big", "width:big does not work: give a whole number, as in 5, >=5 or 5..10.", 0, 9),
        (
            f"width:>{10**18}",
            f"width:>{10**18} does not work: the number is too large:"
            " give one from -999999999999999999 to 999999999999999999.",
            0,
            26,
        ),
        (
            f"a id:5,-{10**18}",
            f"id:5,-{10**18} does not work: the number is too small:"
            " give one from -999999999999999999 to 999999999999999999.",
            2,
            25,
        ),
        (
            f"mpixels:{10**15}",
            f"mpixels:{10**15} does not work: the number is too long:"
            " give at most 15 digits before its point and 15 after it.",
            0,
            24,
        ),
        ("width:..", "width:.. does not work: a range needs at least one end, as in 5.. or ..5.", 0, 8),
        ("age:5", "age:5 does not work: give an age with its unit (s mi h d w mo y), as in <2w or 1d..3d.", 0, 5),
        ("ai:x,>9z", "ai:x,>9z does not work: give a percentage, as in >90%, 70..80 or 0.", 0, 8),
        ("human:", "human: does not work: give the name of a tag.", 0, 6),
        ("md5:x", "md5:x does not work: give the 32 hexadecimal digits of a file's md5.", 0, 5),
        ("limit:0", "limit:0 does not work: give a number of posts, as in limit:40.", 0, 7),
        ("limit:5..9", "limit:5..9 does not work: give a number of posts, as in limit:40.", 0, 10),
        (
            "randseed:x",
            "randseed:x does not work: give a whole number of up to nine digits, as in randseed:5.",
            0,
            10,
        ),
        ("random:x", "random:x does not work: give a number of posts, as in random:5.", 0, 8),
        ("order:id order:md5", "order: stands twice: keep one.", 9, 9),
        ("-order:id", "order: is about the whole list: put it outside of groups, and of - and or.", 1, 8),
        ("a or order:id", "order: is about the whole list: put it outside of groups, and of - and or.", 5, 8),
        ("a\0", "The search has an unprintable character here: remove it.", 1, 1),
        ("(" * 21, "Groups are nested deeper than 20: write the search flatter.", 20, 1),
        ("a " * 101, "The search has more than 100 terms: take some out.", 200, 1),
        (
            "b* " * 21,
            "The search has more than 100 terms, as which each wildcard counts 5 times: take some out.",
            60,
            2,
        ),
        ("a " * 100 + "order:id -b", "The search has more than 100 terms: take some out.", 210, 1),
        ("a" * 4001, "The search is longer than 4,000 characters: shorten it.", 4000, 1),
    ],
)
def test_bad_text_says_what_and_where(text, message, position, length):
    with pytest.raises(SearchError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.position, caught.value.length) == (message, position, length)


@pytest.mark.parametrize(
    ("text", "number"),
    [(f"width:{10**18 - 1}", 10**18 - 1), ("width:00000000000000000000800", 800), ("id:-000000000000000000001", -1)],
)
def test_numbers_of_18_digits_and_leading_zeros_are_read(text, number):
    term = parse(text)
    [found] = FIELDS[term.name].read(term.value)
    assert (found.low, found.high, found.low_in, found.high_in) == (number, number, True, True)


def test_a_wrong_order_names_the_right_one():
    with pytest.raises(SearchError, match="Did you mean filesize"):
        parse("order:filsize")
    with pytest.raises(SearchError, match="Did you mean random[?]"):
        parse("order:random_asc")  # no order:rank_asc, of which the site knows nothing


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("a rating:g,safee b", "a rating:g,safe b"),
        ("filetype:pgn", "filetype:png"),
        ("filetype:jpg,pgn", "filetype:jpg,png"),
    ],
)
def test_the_remedy_for_one_of_a_list_keeps_the_others(text, mended):
    with pytest.raises(SearchError) as caught:
        parse(text)
    assert caught.value.fix.applied(text) == mended


@pytest.mark.parametrize("name", ["landscape_asc", "random_desc", "none_asc"])
def test_orders_of_one_way_say_so(name):
    with pytest.raises(SearchError, match="_desc if you like, or landscape, portrait, random, custom, none."):
        parse(f"order:{name}")
