"""Invitree: the referral engine that companies run themselves."""

__version__ = "0.1.0"
