"""Closing accounts: deletion by the owner or staff, and deactivation by the operator.

Guarantees: sessions, links and the code are revoked in the same transaction. Deletion erases everything that identifies
the user but keeps the referrals, and so everybody's counts; the address is free for a new sign-up.
"""
