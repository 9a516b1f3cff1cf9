"""Sign-up: a new user, with or without a referral code, in one transaction or not at all."""
