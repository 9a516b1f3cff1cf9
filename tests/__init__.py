"""The suite: every test talks to a real PostgreSQL."""
