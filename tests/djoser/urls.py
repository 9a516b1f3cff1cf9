"""Where djoser's routes are: as its documentation has it, and as Invitree has them."""

from django.urls import include, path

urlpatterns = [path("auth/", include(f"djoser.urls{part}")) for part in ("", ".authtoken", ".jwt")]
