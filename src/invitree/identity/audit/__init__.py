"""Events: an append-only record of what concerns the security of accounts: what, when, by whom, from which network.

Promises: written in the transaction of what it tells of; no secrets, no whole addresses; never changed or deleted.
"""
