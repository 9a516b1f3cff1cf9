"""Import of users, codes, tokens and referrals from the SQLite file of the Django service that Invitree replaces.

Guarantees: a user is imported in one transaction with password, code, token and referrer, after the referrer, and once.
Another run completes an interrupted one and does not touch users imported before, whatever has become of them, except
that it restores the spelling of codes folded by an earlier version. Skipped rows are reported with the reason. The file
is only read.
"""
