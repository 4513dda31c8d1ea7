"""Measuring LoRA adapters, and a router's choices between them, by what they do to answers."""
