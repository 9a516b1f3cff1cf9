"""The user of Django's documentation for logging in by e-mail address."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):  # type: ignore[misc]
    """Somebody who logs in by e-mail address."""

    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["username"]  # noqa: RUF012  Django's own way to say it
