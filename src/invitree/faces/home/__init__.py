"""What is at `/`: a page for people, and for programs a list of where things are, as at `/auth/` and `/api/`."""
