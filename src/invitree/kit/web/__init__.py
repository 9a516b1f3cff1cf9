"""HTTP: bodies, answers, pages, and what every request passes first."""
