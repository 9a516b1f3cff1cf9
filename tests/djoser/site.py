"""A Django service with djoser, as the documentation of both sets it up: `python -m tests.djoser.site FOLDER KIND`.

It is a process of its own, because the settings of Django are those of the process. It prints its port.
"""

import sys
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

SECRET = "a secret of the Django service and long enough"
VALIDATION = "django.contrib.auth.password_validation"


def configure(folder: Path, *, kind: str) -> None:
    """Set Django up: `username` is djoser as it comes, `activation` asks for it, `email` logs in by address."""
    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.djoser.urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "rest_framework.authtoken",
            "djoser",
            *(["tests.djoser.people"] if kind == "email" else []),
        ],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        USE_TZ=True,
        AUTH_USER_MODEL="people.User" if kind == "email" else "auth.User",
        AUTH_PASSWORD_VALIDATORS=[
            {"NAME": f"{VALIDATION}.{name}"}
            for name in (
                "UserAttributeSimilarityValidator",
                "MinimumLengthValidator",
                "CommonPasswordValidator",
                "NumericPasswordValidator",
            )
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # it is not Django that is tested
        EMAIL_BACKEND="django.core.mail.backends.filebased.EmailBackend",
        EMAIL_FILE_PATH=folder / "mail",
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [
                "rest_framework.authentication.TokenAuthentication",
                "rest_framework_simplejwt.authentication.JWTAuthentication",
            ]
        },
        SIMPLE_JWT={"AUTH_HEADER_TYPES": ("JWT", "Bearer")},
        DJOSER={
            "SEND_ACTIVATION_EMAIL": kind == "activation",
            "ACTIVATION_URL": "#/activate/{uid}/{token}",
            "PASSWORD_RESET_CONFIRM_URL": "#/password/reset/confirm/{uid}/{token}",
            "USERNAME_RESET_CONFIRM_URL": "#/username/reset/confirm/{uid}/{token}",
        },
    )


class Quiet(WSGIRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main(folder: Path, kind: str) -> None:
    """Serve until killed."""
    configure(folder, kind=kind)
    django.setup()
    call_command("migrate", verbosity=0, run_syncdb=True)
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
