"""HTTP: bodies, responses, pages, and the outermost middleware."""
