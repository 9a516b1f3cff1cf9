"""Referral codes: creation, expiry, lookup. A user has one active code at most; others are never accepted."""
