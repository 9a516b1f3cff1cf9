"""Invitree: the referral engine that companies run themselves."""

from importlib.metadata import version

__version__ = version("invitree")
