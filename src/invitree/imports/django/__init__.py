"""Seed: people, codes, tokens and referrals of the Django service that Invitree replaces, carried over from its file.

Promises: a user arrives in one transaction with password, code, token and referrer, after whoever brought them, and
once: another run completes what was cut off and touches nobody who has arrived, whatever has become of them, but
for codes that an earlier version has folded: these get their spelling back. Whatever stays behind is told with its
reason. The file is only read.
"""
