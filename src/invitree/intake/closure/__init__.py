"""Closure: an account ends, deleted by its owner or staff, or is kept out by the operator until further notice.

Promises: sessions, links and code die in the same transaction; of a deleted user nothing that tells who it was is left,
while the referrals, and so everybody's counts, stay; the address is free for a new sign-up.
"""
