"""Idempotency: a request that its client has named is done once, however often it is asked.

Promises: one effect and one answer for a key, for 24 hours; the answer is written in the transaction of the effect; no
secrets are kept, and nothing about a user who is deleted.
"""
