"""Tests of carrying the Django service's data over."""
