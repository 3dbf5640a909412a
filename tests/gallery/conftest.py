import pytest


@pytest.fixture(autouse=True)
def quick_passwords(settings) -> None:
    """A real password hash takes a second of CPU on purpose; most tests only need somebody signed in."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
