"""Plumbing without domain nouns: database, cache, clock, keys, password hashing, web, logs."""
