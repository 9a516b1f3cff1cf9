"""Faces: pages and endpoints for people and operators, without SQL."""
