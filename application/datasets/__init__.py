"""Routing data sets: making them, growing them, checking them, and looking into them."""
