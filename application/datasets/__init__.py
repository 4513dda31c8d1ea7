"""Routing data sets: making them, growing them, checking them, and sending them to remote volumes."""
