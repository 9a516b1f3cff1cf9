"""Referrals: who brought whom. A referee has one referrer, permanently; the graph is a forest."""
