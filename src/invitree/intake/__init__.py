"""Intake: how people come and go, each in one transaction."""
