"""How processes live: serve, worker, backups."""
