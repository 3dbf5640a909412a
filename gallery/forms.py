from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.utils.datastructures import MultiValueDict

from gallery import editing, merging, uploading
from gallery.models import CATEGORY_ORDER, Category, Invitation, Post, Profile, Tag, TagAlias, typed_name

# A post has one rating whatever its confidence, so a profile has no threshold for it.
PROFILE_CATEGORIES = [category for category in CATEGORY_ORDER if category != Category.RATING]
SOURCE_MOST, CREDIT_MOST = 2000, 500  # characters


class PictureForm(forms.Form):
    """What is said of all the pictures of one upload; the files come beside it."""

    source = forms.CharField(required=False, max_length=SOURCE_MOST, label="Source")
    credit = forms.CharField(required=False, max_length=CREDIT_MOST, label="Artist and licence")
    near = forms.ChoiceField(
        required=False, choices=[(uploading.ASK, "ask me"), *merging.Choice.choices], label="Pictures like one here"
    )

    def clean_source(self) -> str:
        return _source(self.cleaned_data["source"])

    def clean_near(self) -> str:
        return self.cleaned_data["near"] or uploading.ASK


class EditForm(forms.Form):
    """The source, credit and parent of a post. Only what the person changed counts, and is checked.

    What was there when they began to write comes back beside it, so that nobody overwrites another's change by a
    field that they did not touch.
    """

    source = forms.CharField(
        required=False,
        show_hidden_initial=True,
        help_text="The address of the page it is from, or words.",
        widget=forms.TextInput({"maxlength": SOURCE_MOST, "autocapitalize": "none", "spellcheck": "false"}),
    )
    credit = forms.CharField(
        required=False,
        show_hidden_initial=True,
        label="Artist and licence",
        widget=forms.Textarea({"maxlength": CREDIT_MOST, "rows": 3, "placeholder": "By Somebody, CC BY 4.0"}),
    )
    parent = forms.CharField(
        required=False,
        show_hidden_initial=True,
        help_text="The number of the post that this one is a version of.",
        widget=forms.TextInput({"inputmode": "numeric", "maxlength": 200, "spellcheck": "false"}),
    )

    def __init__(self, data: MultiValueDict[str, str] | None = None, *, post: Post) -> None:
        super().__init__(data, initial={name: editing.value(post, name) for name in self.base_fields})
        for field in self.fields.values():
            field.widget.attrs["autocomplete"] = "off"

    def wanted(self) -> dict[str, str]:
        """What the person changed, as `editing.change` takes it."""
        return {name: self.cleaned_data[name] for name in self.changed_data}

    def clean_source(self) -> str:
        text = self.cleaned_data["source"]
        if "source" not in self.changed_data:
            return text
        return _of_length(_source(text), "A source", SOURCE_MOST)

    def clean_credit(self) -> str:
        text = self.cleaned_data["credit"].replace("\r\n", "\n")
        return _of_length(text, "A credit", CREDIT_MOST) if "credit" in self.changed_data else text

    def clean_parent(self) -> str:
        """The number, also out of an address."""
        text = self.cleaned_data["parent"]
        if not text:
            return ""
        found = re.fullmatch(r"#?([0-9]{1,18})|(?:\S*/)?posts/([0-9]{1,18})(?:[/?#]\S*)?", text)
        if not found:
            raise forms.ValidationError("Write the number of a post, as 12, or the address of its page.")
        return str(int(found[1] or found[2]))

    def focus_mistake(self) -> None:
        """Lead the person to the first field that has to be written anew."""
        for name in self.fields:
            if name in self.errors:
                self.fields[name].widget.attrs["autofocus"] = True
                return


def _source(text: str) -> str:
    """A source as it is kept, in one line; an address that leads nowhere is none."""
    text = " ".join(text.split())
    if text.lower().startswith(("http:", "https:")) and not _is_address(text):
        raise forms.ValidationError(
            "Write the whole address of the source, as https://example.org/picture, without spaces."
        )
    return text


def _is_address(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname) and "://" in text and " " not in text
    except ValueError:
        return False


def _of_length(text: str, name: str, most: int) -> str:
    if len(text) > most:
        raise forms.ValidationError(f"{name} has at most {most:,} characters, and this has {len(text):,}: shorten it.")
    return text


class SignInForm(forms.Form):
    username = forms.CharField(max_length=150, label="Name", widget=forms.TextInput({"autocomplete": "username"}))
    password = forms.CharField(
        strip=False, label="Password", widget=forms.PasswordInput({"autocomplete": "current-password"})
    )

    def __init__(self, data: MultiValueDict[str, str] | None = None) -> None:
        super().__init__(data)
        # After a mistake the name is still there and the password is not.
        first = "password" if self["username"].value() else "username"
        self.fields[first].widget.attrs["autofocus"] = True


class JoinForm(forms.Form):
    """A new account's name and password; `inviting.accept` checks them."""

    username = forms.CharField(
        max_length=150,
        label="Name",
        help_text="Letters, digits and @ . + - _",
        widget=forms.TextInput({"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        strip=False,
        label="Password",
        help_text="At least 8 characters, and not a common one.",
        widget=forms.PasswordInput({"autocomplete": "new-password"}),
    )


class InvitationForm(forms.Form):
    role = forms.ChoiceField(choices=Invitation.Role.choices, initial=Invitation.Role.MEMBER)
    days = forms.IntegerField(min_value=1, max_value=90, initial=7, label="Good for (days)")


class PathForm(forms.Form):
    folder = forms.CharField(max_length=1000, label="Folder on this server")


class TagAgainForm(forms.Form):
    SCOPES = [
        ("older", "Posts that an older release tagged"),
        ("search", "Posts that a search finds"),
        ("all", "All posts"),
    ]
    scope = forms.ChoiceField(choices=SCOPES, initial="older", widget=forms.RadioSelect)
    query = forms.CharField(required=False, max_length=1000, label="Search")

    def clean(self) -> None:
        if self.cleaned_data.get("scope") == "search" and not self.cleaned_data.get("query", "").strip():
            self.add_error("query", "Write the search whose posts should be tagged again, or choose all posts.")


def _percent(label: str, *, required: bool = False) -> forms.FloatField:
    return forms.FloatField(
        min_value=0,
        max_value=100,
        required=required,
        label=label,
        widget=forms.NumberInput({"step": "0.1", "inputmode": "decimal"}),
        error_messages={
            "min_value": "A threshold lies between 0 and 100%%.",
            "max_value": "A threshold lies between 0 and 100%%.",
            "invalid": "Write a number between 0 and 100.",
        },
    )


class ProfileForm(forms.Form):
    """A profile in percent: one number overall, one per category if set, and rows of tag and number."""

    name = forms.CharField(max_length=60, label="Name", error_messages={"required": "Give the profile a name."})
    overall = _percent("Overall", required=True)

    def __init__(self, data: MultiValueDict[str, str] | None = None, *, start: Profile) -> None:
        initial = {"name": start.name, "overall": _to_percent(start.overall)}
        initial |= {f"category_{name}": _to_percent(value) for name, value in start.by_category.items()}
        super().__init__(data, initial=initial)
        for category in PROFILE_CATEGORIES:
            self.fields[f"category_{category.label}"] = _percent(category.label)
        self.tag_rows: list[dict[str, Any]] = [
            {"tag": name, "percent": _to_percent(value), "error": ""} for name, value in sorted(start.by_tag.items())
        ]
        if data is not None:
            pairs = zip(data.getlist("tag"), data.getlist("tag_percent"), strict=False)
            pairs = [(tag.replace("\0", ""), percent) for tag, percent in pairs]
            self.tag_rows = [{"tag": tag, "percent": percent, "error": ""} for tag, percent in pairs if tag.strip()]

    def category_fields(self) -> list[forms.BoundField]:
        return [self[f"category_{category.label}"] for category in PROFILE_CATEGORIES]

    def clean(self) -> None:
        self.by_tag = self._by_tag()

    def cleaned_profile(self) -> dict[str, Any]:
        """What was written, in the words and parts of one of Profile."""
        numbers = {category.label: self.cleaned_data[f"category_{category.label}"] for category in PROFILE_CATEGORIES}
        return {
            "name": self.cleaned_data["name"],
            "overall": self.cleaned_data["overall"] / 100,
            "by_category": {name: value / 100 for name, value in numbers.items() if value is not None},
            "by_tag": self.by_tag,
        }

    def _by_tag(self) -> dict[str, float]:
        named = {row["tag"]: typed_name(row["tag"]) for row in self.tag_rows}
        known = set(Tag.objects.filter(name__in=named.values()).values_list("name", flat=True))
        aliases = dict(TagAlias.objects.filter(name__in=named.values()).values_list("name", "tag__name"))
        by_tag: dict[str, float] = {}
        for row in self.tag_rows:
            name = named[row["tag"]]
            name = aliases.get(name, name)
            number = _number(row["percent"])
            if number is None:
                row["error"] = "Write a number between 0 and 100 for this tag."
            elif name not in known | set(aliases.values()):
                row["error"] = f"No tag here is called “{name}”: check its spelling."
            else:
                by_tag[name] = number / 100
        if any(row["error"] for row in self.tag_rows):
            self.add_error(None, "One of the numbers for single tags can't be used: see below.")
        return by_tag


def _to_percent(value: float) -> float:
    return round(value * 100, 1)


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value <= 100 else None
