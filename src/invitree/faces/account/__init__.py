"""Account pages: where links in emails lead."""
