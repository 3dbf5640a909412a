"""Many clients at one time while a writer tags posts again: how long pages take, and whether they see the writes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil

from tests.benchmarks import stage

CLIENTS, SECONDS, RETAGS_A_SECOND, BATCH = 8, 30.0, 50, 10
PAUSE = 0.1  # seconds from a client's page to its next
NOTICED = 0.1  # share of the cores' time from which a machine's host is noticed in a page
_TIMES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


class Seen(NamedTuple):
    """A page with its count, in milliseconds: the whole, its two halves, and where the time went.

    `cpu` is the client's and its backend's, `queued` what both waited for a free core; `at` are seconds from the start.
    `taken` is the share of the cores' time meanwhile that the machine's host gave to others.
    """

    text: str
    at: float
    wall: float
    rows: float
    count: float
    cpu: float
    queued: float
    taken: float = 0.0


class Crowd(NamedTuple):
    """Every page, how many posts were tagged again, and how many of these the next search did not see.

    Of the cores' time meanwhile, `idle` is the share that nobody used, `taken` what the machine's host gave to others:
    a page's wait says little where other programs left nothing idle, or the host took much.
    """

    pages: list[Seen]
    retagged: int
    unseen: int
    idle: float
    taken: float


def run(texts: Sequence[tuple[str, int]], profiles: Sequence[Any], posts: int) -> Crowd:
    """`texts` are searches, each with the number of its profile."""
    context = multiprocessing.get_context("spawn")
    # Plain numbers: a child can't read classes of the site before Django is set up there.
    numbers = [(each.overall, dict(each.by_category)) for each in profiles]
    with context.Manager() as manager:
        begin, end, results = manager.Barrier(CLIENTS + 2), manager.Event(), manager.Queue()
        workers = [
            context.Process(target=_client, args=(number, texts, numbers, begin, end, results))
            for number in range(CLIENTS)
        ]
        workers.append(context.Process(target=_writer, args=(posts, begin, end, results)))
        for worker in workers:
            worker.start()
        begin.wait(SECONDS * 10)
        before, host = psutil.cpu_times(), Host()
        while not end.wait(Host.PERIOD):
            host.look()
        after = psutil.cpu_times()
        answers = [results.get(timeout=SECONDS * 10) for _ in workers]
        for worker in workers:
            worker.join()
    pages = [host.seen(Seen(*page)) for kind, answer in answers if kind == "client" for page in answer]
    retagged, unseen = next(answer for kind, answer in answers if kind == "writer")
    spent = {name: getattr(after, name, 0.0) - getattr(before, name, 0.0) for name in _TIMES}
    whole = sum(spent.values())
    return Crowd(pages, retagged, unseen, (spent["idle"] + spent["iowait"]) / whole, spent["steal"] / whole)


class Host:
    """How much of the cores' time the machine's host gives to others, looked at often."""

    PERIOD = 0.05  # seconds; the kernel counts in hundredths

    def __init__(self) -> None:
        self.began, self._cores = time.perf_counter(), psutil.cpu_count()
        self._at, self._taken = [0.0], [self._stolen()]

    @staticmethod
    def _stolen() -> float:
        return getattr(psutil.cpu_times(), "steal", 0.0)

    def look(self) -> None:
        self._at.append(time.perf_counter() - self.began)
        self._taken.append(self._stolen())

    def seen(self, page: Seen) -> Seen:
        """The page with the share that was taken between the looks around it."""
        first = max(0, int(np.searchsorted(self._at, page.at, "right")) - 1)
        last = min(len(self._at) - 1, int(np.searchsorted(self._at, page.at + page.wall / 1000)))
        first = min(first, max(0, last - 1))
        passed = max(self._at[last] - self._at[first], 1e-9) * self._cores
        return page._replace(taken=(self._taken[last] - self._taken[first]) / passed)


def _client(number: int, texts: Any, numbers: Any, begin: Any, end: Any, results: Any) -> None:
    stage.join_django()
    from gallery import search
    from gallery.profiles import Thresholds

    profiles = [Thresholds(*each) for each in numbers]
    chance, pages = np.random.default_rng(number), []
    # The sample is read once a process, and connections last: a site's are warm.
    text, profile = texts[number]
    search.count(text, profiles[profile], page=search.find(text, profiles[profile]))
    meter = stage.Meter(stage.backend_pid())
    begin.wait()
    start = time.perf_counter()
    while not end.is_set():
        text, profile = texts[chance.integers(len(texts))]
        began = time.perf_counter()
        with meter.measure():
            page = search.find(text, profiles[profile])
            found = time.perf_counter()
            search.count(text, profiles[profile], page=page)
        rows = (found - began) * 1000
        pages.append((text, began - start, meter.wall_ms, rows, meter.wall_ms - rows, meter.cpu_ms, meter.queued_ms))
        time.sleep(PAUSE)
    results.put(("client", pages))


def _writer(posts: int, begin: Any, end: Any, results: Any) -> None:
    """Tags posts again, so many a second; the next search by another connection has to find what changed."""
    stage.join_django()
    from gallery import search
    from gallery.models import Category, Tag
    from gallery.profiles import Thresholds

    chance = np.random.default_rng(99)
    tag = Tag.objects.create(name="tagged_again", category=Category.META)
    begin.wait()
    began, done, unseen = time.perf_counter(), 0, 0
    while (passed := time.perf_counter() - began) < SECONDS:
        if done > passed * RETAGS_A_SECOND:
            time.sleep(0.005)
            continue
        chosen = (chance.choice(posts, BATCH, replace=False) + 1).tolist()
        retag(chosen, chance, extra=tag.pk)
        found = search.find(f"tagged_again id:{','.join(map(str, chosen))}", Thresholds(100)).post_ids
        unseen += BATCH - len(found)
        done += BATCH
    end.set()
    results.put(("writer", (done, unseen)))


def use_another_release() -> None:
    """From now on another release is the active one, which has seen no post yet."""
    from gallery.models import Release

    Release.objects.update(active=False)
    Release.objects.create(name="second", title="second", folder="", config={}, tag_ids=[], active=True)


def retag(post_ids: Sequence[int], chance: np.random.Generator, extra: int = 0) -> None:
    """These posts by another release."""
    write(predicted_again(post_ids, chance, extra))


def predicted_again(post_ids: Sequence[int], chance: np.random.Generator, extra: int = 0) -> list[Any]:
    """What another release says: each confidence a little different, a few doubtful tags gone and others come."""
    from gallery.index import indexing
    from gallery.models import Release

    release = Release.objects.get(active=True)
    rows = list(indexing.current_predictions(post_ids))
    for row in rows:
        row.release = release
        tags = dict(zip(row.tag_ids, row.confidences, strict=True))
        doubtful = [tag for tag, byte in tags.items() if byte < 60]
        for gone in chance.choice(doubtful, min(3, len(doubtful)), replace=False) if doubtful else ():
            del tags[int(gone)]
        tags = {tag: int(np.clip(byte + chance.integers(-9, 9), 26, 254)) for tag, byte in tags.items()}
        tags.update({int(tag) + 1: 30 for tag in chance.integers(0, 30_000, 3)})
        if extra:
            tags[extra] = 200
        row.tag_ids = sorted(tags)
        row.confidences = bytes(tags[tag] for tag in row.tag_ids)
        row.pk = None
    return rows


def write(rows: Sequence[Any]) -> None:
    """Predictions, and with them the index: what a worker does with a batch."""
    from django.db import transaction

    from gallery.index import indexing
    from gallery.models import Prediction

    with transaction.atomic():
        Prediction.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["post", "release"],
            update_fields=["tag_ids", "confidences", "created_at"],
        )
        indexing.rebuild(row.post_id for row in rows)
