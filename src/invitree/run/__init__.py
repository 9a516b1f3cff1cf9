"""Processes: serving, the worker, backups."""
