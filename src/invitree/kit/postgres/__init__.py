"""Running PostgreSQL and its client programs."""
