"""Sharing: referral codes, and who was referred by whom."""
