"""Jobs that outlive a request, and the queue that the worker takes them from."""
