"""A member's blacklist: the page to write it on, and what it hides on pages that list posts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from gallery import blacklisting, profiles
from gallery.http import member_only, next_path
from gallery.search import nodes

_SESSION_KEY = "blacklist"  # rules that were shown or hidden by hand, by key: True for shown
_ADVICE = 5


@dataclass(frozen=True)
class Toggle:
    """A rule about posts of a page: how many, whether they are shown, and whether because the search asks for them."""

    key: str
    text: str
    posts: int
    shown: bool
    asked: bool


@dataclass(frozen=True)
class Hiding:
    """What a blacklist does to one page."""

    toggles: Sequence[Toggle] = ()
    hidden: frozenset[int] = frozenset()
    problems: Sequence[str] = ()

    @property
    def all_shown(self) -> bool:
        return all(toggle.shown for toggle in self.toggles)

    def visible(self, post_ids: Iterable[int]) -> list[int]:
        return [pk for pk in post_ids if pk not in self.hidden]


def hiding(request: HttpRequest, post_ids: Sequence[int], tree: nodes.Node = nodes.EVERYTHING) -> Hiding:
    """What the visitor's blacklist hides of these posts, which a search of this tree, without aliases, found."""
    stored = profiles.preference(request)
    if stored is None or not stored.blacklist:
        return Hiding()
    thresholds = profiles.resolve(profiles.chosen(request))
    found, problems = blacklisting.matches(stored.blacklist, post_ids, thresholds, request.user)
    by_hand = request.session.get(_SESSION_KEY, {}) if found else {}
    toggles = []
    for rule, ids in found:
        asked = blacklisting.is_asked_for(rule, tree)
        toggles.append(Toggle(rule.key, rule.text, len(ids), by_hand.get(rule.key, asked), asked))
    shown = [toggle.key for toggle in toggles if toggle.shown]
    return Hiding(toggles, frozenset(blacklisting.hidden(found, shown)), problems)


@require_http_methods(["GET", "POST"])
@never_cache
@member_only
def blacklist(request: HttpRequest) -> HttpResponse:
    """The lines of one's blacklist; they are stored when all of them can be read."""
    stored = profiles.preference(request)
    text = request.POST.get("blacklist", "") if request.method == "POST" else stored.blacklist if stored else ""
    mistakes = blacklisting.mistakes(text) if request.method == "POST" else []
    if request.method == "POST" and not mistakes:
        thresholds = profiles.resolve(profiles.chosen(request))
        blacklisting.store(request.user, text)
        messages.success(request, "Your blacklist is saved." if text.strip() else "Your blacklist is empty now.")
        for note in blacklisting.advice(text, thresholds, request.user)[:_ADVICE]:
            messages.warning(request, note)
        return redirect("blacklist")
    context = {"text": text, "mistakes": mistakes, "rules": blacklisting.rules(text), "most": blacklisting.MOST}
    return render(request, "blacklist/blacklist.html", context, status=422 if mistakes else 200)


@require_POST
@member_only
def show_blacklisted(request: HttpRequest) -> HttpResponse:
    """Show or hide what single rules are about, or all of a page's, for the rest of the visit."""
    stored = profiles.preference(request)
    known = {rule.key for rule in blacklisting.rules(stored.blacklist if stored else "")}
    by_hand = request.session.get(_SESSION_KEY, {})
    if (every := request.POST.get("all")) in ("show", "hide"):
        by_hand |= dict.fromkeys(request.POST.getlist("rule"), every == "show")
    by_hand |= dict.fromkeys(request.POST.getlist("show"), True) | dict.fromkeys(request.POST.getlist("hide"), False)
    request.session[_SESSION_KEY] = {key: shown for key, shown in by_hand.items() if key in known}
    return redirect(next_path(request))
