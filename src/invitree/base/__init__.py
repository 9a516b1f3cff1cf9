"""Pure values: settings, problems, e-mail addresses. Nothing here waits, opens or remembers anything."""
