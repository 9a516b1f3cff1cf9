"""Identity: programs, their users, and how users prove who they are."""
