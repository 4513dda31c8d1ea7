"""Deciding which adapter should answer, and scoring the decisions."""
