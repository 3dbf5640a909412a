import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import Client

from gallery import search
from gallery.profiles import Thresholds
from gallery.views.search_help import SECTIONS
from tests.gallery.making import make_release, make_site_profiles

pytestmark = pytest.mark.django_db
EXAMPLES = [example for _, _, rows in SECTIONS for example, _ in rows]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_is_a_search(example):
    make_site_profiles(make_release(), high_precision=0.9, high_recall=0.1)
    tree = search.parse(example)
    assert search.parse(search.to_text(tree)) == tree
    search.find(example, Thresholds(127), viewer=AnonymousUser())


def test_the_help_is_for_everybody():
    text = Client().get("/searches/help/").content.decode()
    assert "ai:smile,&gt;90%" in text and 'href="/?q=-long_hair"' in text and "favgroup:" in text
    assert '<span class="word">-human:smile</span>' in text  # a line never ends between - and the tag
