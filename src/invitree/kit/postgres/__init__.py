"""Running PostgreSQL and its programs."""
