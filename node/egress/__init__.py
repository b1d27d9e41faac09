"""Outcome -> messages out."""
