"""Infrastructure without domain terms: database, cache, clock, keys, password hashing, web, logs."""
