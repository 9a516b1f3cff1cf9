"""Sign-up: creating a user, with or without a referral code, in one transaction."""
