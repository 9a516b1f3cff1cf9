"""Sessions: who is calling. One session a device, holding an opaque token or a family of refresh tokens.

Promises: tokens are stored as keyed hashes; a refresh token is used once, and using it again kills its family, unless
it is the retry of a client that lost the answer; ending a session ends its access tokens at the commit.
"""
