"""Every setting, read once from the environment (or `.env`), typed, and loud when wrong.

The table in README.md lists the names below; a test compares the two.
"""

from __future__ import annotations

import os
import secrets
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from gallery.launch import dotenv

BASE_DIR = dotenv.ROOT


def _text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def _integer(name: str, default: int) -> int:
    value = _text(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}: give a whole number, such as {default}.") from None


def _choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = _text(name, default).lower()
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}: give one of {', '.join(choices)}.")
    return value


def _flag(name: str, default: bool) -> bool:
    return _choice(name, "1" if default else "0", ("0", "1", "false", "true", "no", "yes")) in (
        "1",
        "true",
        "yes",
    )


def _list(name: str, default: str) -> list[str]:
    return [part.strip() for part in _text(name, default).split(",") if part.strip()]


dotenv.read()
DATA_DIR = dotenv.data_folder()


def _secret_key() -> str:
    """SECRET_KEY from the environment, else one made once and kept in the data folder."""
    if value := _text("SECRET_KEY"):
        return value
    path = DATA_DIR / "secret_key"
    try:
        if path.is_file():
            return path.read_text(encoding="ascii").strip()
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        value = secrets.token_urlsafe(50)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(value)
        return value
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"The data folder {DATA_DIR} can't be written ({error.strerror}): "
            "make it writable, or set MANABOORU_DATA to another folder."
        ) from None


def _database(url: str) -> dict[str, object]:
    """Django's database entry for a postgres:// URL; `?host=/folder` names a socket folder."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(
            f"DATABASE_URL begins with {parts.scheme!r}: Manabooru needs Postgres, "
            "as in postgres://user:password@host:5432/name."
        )
    query = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "manabooru",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", unquote(parts.hostname or "")),
        "PORT": str(parts.port or ""),
        "OPTIONS": {"pool": {"min_size": 1, "max_size": _integer("DATABASE_POOL", 8)}, **query},
    }


SECRET_KEY = _secret_key()
DEBUG = _flag("DEBUG", False)
ALLOWED_HOSTS = _list("ALLOWED_HOSTS", "*")
CSRF_TRUSTED_ORIGINS = _list("CSRF_TRUSTED_ORIGINS", "")

DATABASE_URL = _text("DATABASE_URL", "postgres://manabooru@/manabooru")
REDIS_URL = _text("REDIS_URL", "redis://127.0.0.1:6379/0")
DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "django_htmx",
    "gallery.apps.GalleryConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "gallery.middleware.readable_address",
    "gallery.middleware.members_only",
    "gallery.middleware.content_security_policy",
    "gallery.middleware.forms_only",
]

ROOT_URLCONF = "gallery.urls"
WSGI_APPLICATION = "gallery.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gallery.context.site",
            ]
        },
    }
]

# Redis: broker and cache share one server, so every cache key has a time to live.
_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "manabooru",
        "TIMEOUT": 300,
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
CELERY_BROKER_URL = _BROKER_URL
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
# What takes minutes never stands before what is looked after every half minute, nor before an upload's tags.
_QUEUES = {
    "tagging": ("tag_waiting", "try_pictures", "predict_posts", "fill_features", "check_fast"),
    "long": (
        "get_release",
        "hand_out",
        "index_features",
        "install_seed",
        "rebuild_after_change",
        "rebuild_posts",
        "rebuild_with_tags",
        "run_export",
    ),
}
CELERY_TASK_ROUTES = {f"gallery.tasks.{name}": {"queue": queue} for queue, names in _QUEUES.items() for name in names}
CELERY_TASK_DEFAULT_QUEUE = "default"
# What no worker took before the next one is sent is not needed any more.
_EVERY_30_SECONDS = {"schedule": 30.0, "options": {"expires": 30.0}}
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "gallery.tasks.sweep", **_EVERY_30_SECONDS},
    "histograms": {"task": "gallery.tasks.refresh_histograms", **_EVERY_30_SECONDS},
    "likeness": {"task": "gallery.tasks.index_features", **_EVERY_30_SECONDS},
}

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA_DIR / "media"
MEDIA_BY_PROXY = _flag("MEDIA_BY_PROXY", False)  # the site decides, the proxy sends the bytes (deploy/nginx.conf)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
RELEASES_DIR = DATA_DIR / "releases"
EXPORTS_DIR = DATA_DIR / "exports"

LANGUAGE_CODE = "en"
TIME_ZONE = _text("TIME_ZONE", "UTC")
USE_I18N = False  # all pages are in English
USE_TZ = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "browse"
LOGOUT_REDIRECT_URL = "browse"
AUTHENTICATION_BACKENDS = [
    "gallery.accounts.members.MemberBackend",
    "django.contrib.auth.backends.ModelBackend",  # of sessions that began before the other one was
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
SESSION_COOKIE_AGE = 60 * 60 * 24 * 60
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
BEHIND_HTTPS = _flag("BEHIND_HTTPS", False)
PROXIES = _integer("PROXIES", MEDIA_BY_PROXY + BEHIND_HTTPS)  # that add to X-Forwarded-For
if BEHIND_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True

# The site
SITE_NAME = _text("SITE_NAME", "Manabooru")
SITE_MODE = _choice("SITE_MODE", "open", ("open", "members"))
PAGE_SIZE = _integer("PAGE_SIZE", 40)
UPLOAD_MAX_MB = _integer("UPLOAD_MAX_MB", 50)
UPLOAD_MAX_MEGAPIXELS = _integer("UPLOAD_MAX_MEGAPIXELS", 100)
UPLOAD_MAX_ANIMATION_MEGAPIXELS = _integer("UPLOAD_MAX_ANIMATION_MEGAPIXELS", 1000)
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

# The tagger's worker
TAGGER_DEVICE = _choice("TAGGER_DEVICE", "auto", ("auto", "cpu", "cuda"))
TAGGER_BATCH = _integer("TAGGER_BATCH", 0)  # 0: as many pictures at once as memory holds
TAGGER_THREADS = _integer("TAGGER_THREADS", 0)  # 0: as torch likes
TAGGER_PROCESSES = _integer("TAGGER_PROCESSES", 0)  # 0: one a GPU; without one as gallery/launch/tagging.py chooses
TAGGER_IDLE_SECONDS = _integer("TAGGER_IDLE_SECONDS", 900)  # 0: the model stays in memory
TAGGING_ATTEMPTS = _integer("TAGGING_ATTEMPTS", 3)
TAGGING_STALE_SECONDS = _integer("TAGGING_STALE_SECONDS", 300)
