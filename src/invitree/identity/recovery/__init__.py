"""Credentials: proving an address, and changing a password, username or address, signed in or by a link in a mail.

Promises: a link works once; whoever changes a password ends every other session; an address changes only when the new
one has been read; whether somebody has an account is not told.
"""
