"""Referral codes: minting, expiry, lookup. At most one live code a user; a dead one is never honored."""
