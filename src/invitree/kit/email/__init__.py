"""Composing email and delivering it by SMTP."""
