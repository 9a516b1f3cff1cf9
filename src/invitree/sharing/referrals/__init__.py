"""Referrals: who brought whom. A referee has one referrer, for ever; the graph is a forest."""
