"""Imports from other services."""
