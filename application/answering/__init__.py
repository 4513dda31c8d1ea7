"""Answering prompts through the LoRA adapters that the router picks."""
