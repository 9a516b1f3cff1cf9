"""Pure values: settings, problems, e-mail addresses. No I/O and no state."""
