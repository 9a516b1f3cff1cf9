"""Background jobs, and the queue that the worker consumes."""
