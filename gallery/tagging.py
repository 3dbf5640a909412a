"""THE SEAM: claims waiting posts in batches, asks the tagger, stores predictions, rebuilds the tag index.

The only module that imports the tagger. What it imports at its top, and offers to `releasing`, reads
release folders without torch; `tagger.inference` comes in only where a worker tags, so the web process
never loads torch. Killed at any point, nothing is lost and nothing is done twice: a row says who
claimed it when, and the sweep returns what hung.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.core.cache import cache
from django.core.files.storage import default_storage

from gallery import pictures
from gallery.likeness import features
from gallery.models import Post, Prediction, Release
from gallery.worker import batching, trying, workers
from gallery.worker.batching import Tagger, pixels_of, row_of
from gallery.worker.sending import send, wake
from gallery.worker.sweeping import finish_runs, sweep
from tagger.importing.download import bytes_here
from tagger.importing.published import offers
from tagger.release import ReleaseError, ReleaseFolder
from tagger.release import read as read_release
from tagger.thresholds import site_profiles

__all__ = [
    "ReleaseError",
    "ReleaseFolder",
    "busy_seconds",
    "fill_features",
    "bytes_here",
    "held",
    "import_command",
    "FAST_DEVICES",
    "QUEUE",
    "device",
    "is_stopping",
    "offers",
    "predict_posts",
    "problem",
    "queue_of",
    "read_release",
    "send",
    "site_profiles",
    "stop",
    "sweep",
    "tag_waiting",
    "try_pictures",
    "wake",
]

logger = logging.getLogger(__name__)

QUEUE = "tagging"
FAST_DEVICES = ("cuda", "amx")  # that may run fast mode; each has workers, results and messages of its own
_CHECKED_POSTS = 32  # to compare the modes on where a release brings no pictures
_OTHERS = 16  # posts on either end whose pictures tell a storage that is away from one missing file
_PROBLEM = "tagger:problem"
_PROBLEM_SECONDS = 120  # the sweep wakes a worker every 30 seconds, which says it again


_loaded: Tagger | None = None  # one model a process, replaced when another release becomes active
_in_use = threading.Lock()  # held while posts are tagged, so that the model is not freed meanwhile
_last_used = 0.0
_timer: threading.Timer | None = None  # under way until the model may have been idle long enough
_stopping = threading.Event()


def stop() -> None:
    """The worker is ending: finish the batch in the model, let all others wait for the next start."""
    _stopping.set()


def is_stopping() -> bool:
    return _stopping.is_set()


def import_command(kind: str, repository: str, stages: str, name: str, title: str, folder: Path) -> list[str]:
    """The program that downloads into `files` of this folder and makes the release in `release` of it."""
    words = ["--download", "--progress", "--repository", repository, "--stages", stages, "--name", name]
    words += ["--title", title, "--from", str(folder / "files"), "--out", str(folder / "release")]
    return [sys.executable, "-m", "tagger", "import", kind, *words]


def held() -> workers.Held | None:
    """The model in this process's memory."""
    tagger = _loaded
    if tagger is None:
        return None
    predictor = tagger.predictor
    return workers.Held(tagger.release_id, predictor.stage, predictor.mode, predictor.engine.title)


def busy_seconds() -> float:
    """How long the model in this process's memory has been at work."""
    return _loaded.batcher.busy_seconds if _loaded else 0.0


def tag_waiting(seconds: float = 60) -> int:
    """Tag posts that wait until none does or the time is up, end the runs that are done; returns how many were tagged.

    While more wait than one batch, another worker is woken, or this one again when it is free.
    """
    with _in_use, _freed_when_idle():
        wanted = not _stopping.is_set() and Post.objects.waiting().exists()
        tagger = _active_tagger() if wanted else None
        tagged = _tag(tagger, time.monotonic() + seconds) if tagger else 0
    if tagger:
        finish_runs()
    return tagged


def _tag(tagger: Tagger, deadline: float) -> int:
    return batching.tag_until(
        tagger,
        deadline,
        lambda: not _stopping.is_set() and _is_active(tagger),
        lambda run: trying.tag(tagger.predictor, tagger.tag_ids, tagger.release_id, run),
    )


def try_pictures() -> None:
    """Tag the pictures that people only try, each with the release that it was sent for."""
    with _in_use, _freed_when_idle():
        if tagger := _active_tagger():
            trying.tag(tagger.predictor, tagger.tag_ids, tagger.release_id)
    for release_id in trying.wanted():
        try:
            other = _open(Release.objects.get(pk=release_id))
        except (Release.DoesNotExist, ReleaseError) as error:
            trying.fail(release_id, str(error))
        else:
            trying.tag(other.predictor, other.tag_ids, release_id)


def predict_posts(release_id: int, *post_ids: int, seconds: float = 30) -> int:
    """Tag posts by a release that is not active, to compare it; what counts for them stays. Returns how many it did.

    When the time is up it lets the others go first and goes on after them.
    """
    release = Release.objects.filter(pk=release_id, active=False).first()
    seen = Prediction.objects.filter(release_id=release_id, post_id__in=post_ids).values("post_id")
    posts = list(Post.objects.active().filter(pk__in=post_ids).exclude(pk__in=seen)) if release else []
    if not posts:
        return 0
    tagger, done, deadline = _open(release), 0, time.monotonic() + seconds
    for number, post in enumerate(posts, 1):
        try:
            found = tagger.predictor.predict_prepared([pixels_of(tagger.predictor, post)])[0]
        except Exception as error:
            logger.warning("Post %s could not be tagged by %s: %s", post.pk, release.name, error)
            continue
        Prediction.objects.bulk_create([row_of(tagger, post, found)], ignore_conflicts=True)
        features.store(release_id, {post.pk: found.feature})
        done += 1
        if time.monotonic() > deadline and posts[number:]:
            send("predict_posts", release_id, *(later.pk for later in posts[number:]))
            break
    return done


def fill_features(seconds: float = 20) -> int:
    """Ask again for the features of posts that were tagged without, while nothing else waits; returns how many."""
    deadline, done = time.monotonic() + seconds, 0
    with _in_use, _freed_when_idle():
        tagger = _active_tagger()
        if tagger and tagger.predictor.release.camie is None:  # other people's models answer tags alone
            features.none_to_come(tagger.release_id)
            return 0
        while tagger and time.monotonic() < deadline and not _stopping.is_set() and not Post.objects.waiting().exists():
            posts = list(features.missing(tagger.release_id)[: tagger.batcher.size()])
            asked = _fill(tagger, posts)
            done += asked
            if not posts or asked < len(posts):
                break
    return done


def _fill(tagger: Tagger, posts: list[Post]) -> int:
    """Keep these posts' features, and of which there is none; on the site's own trouble stop, and pause a while."""
    found: dict[int, np.ndarray | None] = {}
    try:
        for post in posts:
            found[post.pk] = _feature(tagger, post)
    except Exception as error:
        logger.warning("Features are not filled in now: %s", error)
        features.none_to_come(tagger.release_id, features.PAUSE_SECONDS)
    features.store(tagger.release_id, found, final=True)
    return len(found)


def _feature(tagger: Tagger, post: Post) -> np.ndarray | None:
    """None where the picture is to blame. Raises what passes: a storage that is away, a model that broke."""
    try:
        pixels = pixels_of(tagger.predictor, post)
    except Exception as error:
        if not _is_to_blame(post):
            raise
        logger.warning("Post %s has no feature: %s", post.pk, error)
        return None
    return tagger.batcher.predict([pixels])[0].feature


def _is_to_blame(post: Post) -> bool:
    """Whether the picture can't be decoded even without a GPU, or not be read while others can."""
    try:
        with default_storage.open(post.file_path) as file, pictures.open_picture(file) as image:
            pictures.upright(image).load()
    except MemoryError:
        return False
    except Exception as error:
        return not _is_of_storage(error) or _storage_answers(post)
    return False


def _is_of_storage(error: Exception) -> bool:
    """A decoder's errors are OSErrors, too, but without a number."""
    cause = error.__cause__ or error
    return isinstance(cause, OSError) and cause.errno is not None


def _storage_answers(post: Post) -> bool:
    """Whether the picture of any other post can be read, of the newest or the oldest."""
    others = Post.objects.active().exclude(pk=post.pk)
    for other in [*others.order_by("-pk")[:_OTHERS], *others.order_by("pk")[:_OTHERS]]:
        try:
            with default_storage.open(other.file_path) as file:
                if file.read(1):
                    return True
        except OSError:
            continue
    return False


def _active_tagger() -> Tagger | None:
    """The active release's model, loaded on first use in this process; None without an active release."""
    global _loaded
    release = Release.objects.filter(active=True).first()
    if release is None:
        return None
    if _loaded is None or (_loaded.release_id, _loaded.way) != (release.pk, release.way):
        _loaded = None  # let the old model's memory go before the new one comes
        try:
            _loaded = _open(release)
        except Exception as error:
            cache.set(_PROBLEM, f"{release.title} can't be loaded, so nothing is tagged: {error}", _PROBLEM_SECONDS)
            raise
        cache.delete(_PROBLEM)
        workers.tell()
    return _loaded


def problem() -> str:
    """Why the worker can't tag anything at all, for the staff; empty when it can."""
    return cache.get(_PROBLEM, "")


def _open(release: Release) -> Tagger:
    from tagger.batching import Batcher

    predictor = _fast_predictor(release) if release.mode == Release.Mode.FAST else _predictor(release, "exact")
    batcher = Batcher(predictor, settings.TAGGER_BATCH)
    return Tagger(release.pk, release.way, predictor, batcher, np.array(release.tag_ids, np.int64))


def _predictor(release: Release, mode: str) -> Any:
    from tagger.inference import Predictor

    return Predictor(release.path, settings.TAGGER_DEVICE, release.stage, settings.TAGGER_THREADS, release.engine, mode)


def _fast_predictor(release: Release) -> Any:
    """In fast mode where this worker's own engine passed the check; other workers may have other devices."""
    from tagger import fast

    reason = fast.why_not(read_release(release.path), settings.TAGGER_DEVICE)
    if reason is None:
        predictor = _predictor(release, "fast")
        if release.is_fast_with(predictor.engine.title):
            return predictor
        reason = f"{predictor.engine.title} was not checked, or did not pass."
        del predictor  # the two models need not be in memory together
    logger.info("%s runs in exact mode here. %s", release.title, reason)
    return _predictor(release, "exact")


def device() -> str:
    """What this worker computes on, as far as fast mode depends on it: cuda, amx or cpu."""
    from tagger import fast

    wanted = settings.TAGGER_DEVICE
    if wanted.startswith("cuda") or (wanted == "auto" and fast.has_cuda()):
        return "cuda"
    return "amx" if fast.has_amx() else "cpu"


def queue_of(device: str) -> str:
    """Messages for the tagging workers on such devices alone."""
    return f"{QUEUE}.{device}"


def check_fast(release: Release) -> dict[str, Any]:
    """Whether this machine can run a release in fast mode, and finds the same tags then; the tagger's gate as JSON.

    On the release's calibration pictures, or where it has none on the site's newest posts.
    """
    from tagger import fast

    shown = fast.calibration_pictures(release.path) or list(_newest_pictures())
    gate = fast.check(release.path, shown, settings.TAGGER_DEVICE, settings.TAGGER_THREADS, stage=release.stage)
    return gate.to_json()


def _newest_pictures() -> Iterator[bytes]:
    """Their files, each of which can be decoded."""
    for post in Post.objects.active().order_by("-pk")[:_CHECKED_POSTS]:
        try:
            with default_storage.open(post.file_path) as file, pictures.open_picture(file) as image:
                pictures.upright(image).load()
                file.seek(0)
                yield file.read()
        except Exception as error:  # a post without its picture says nothing about the release
            logger.warning("Post %s is left out of the check: %s", post.pk, error)


@contextmanager
def _freed_when_idle() -> Iterator[None]:
    """After the work, look once more when the idle time is over."""
    global _last_used
    try:
        yield
    finally:
        _last_used = time.monotonic()
        _look_after(settings.TAGGER_IDLE_SECONDS)


def _look_after(seconds: float) -> None:
    """Have `_free_if_idle` called; once, however many messages came meanwhile, as each timer is a thread."""
    global _timer
    if _loaded and seconds and _timer is None:
        _timer = threading.Timer(seconds, _free_if_idle)
        _timer.daemon = True
        _timer.start()


def _free_if_idle() -> None:
    """Let the model go, or look again when the idle time since its last use is over."""
    global _loaded, _timer
    with _in_use:
        _timer = None
        left = _last_used + settings.TAGGER_IDLE_SECONDS - time.monotonic()
        if left > 0 or not _loaded:
            _look_after(left)
            return
        from tagger.memory import free_memory

        _loaded = None
        free_memory()
        workers.tell()
        logger.info("The model is freed after %d idle seconds", settings.TAGGER_IDLE_SECONDS)


def _is_active(tagger: Tagger) -> bool:
    stage, mode, engine = tagger.way
    return Release.objects.filter(pk=tagger.release_id, active=True, stage=stage, mode=mode, engine=engine).exists()
