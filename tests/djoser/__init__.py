"""Requests that djoser and Invitree must answer alike, but for what docs/coming-from-django.md names."""
