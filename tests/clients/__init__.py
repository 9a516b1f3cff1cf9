"""The libraries that front ends are written with, against a running service."""
