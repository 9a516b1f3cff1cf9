"""Keys, tokens, and password hashes."""
