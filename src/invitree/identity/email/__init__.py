"""Mails: letters to people, and the one-time tokens in their links.

Promises: a letter is a job in the transaction of what it tells of; neither the queue nor the database holds a token;
a token works once, for what it was made for, within its life, which begins when the letter is sent.
"""
