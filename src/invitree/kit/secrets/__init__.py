"""Keys, tokens, and hashes of passwords."""
