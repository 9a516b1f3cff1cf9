"""Email: messages, and their way to a mail server."""
