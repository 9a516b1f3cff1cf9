"""A Django application with users who log in by e-mail address."""
