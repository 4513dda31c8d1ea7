"""The frozen base model: loading any of them, and turning prompts into features."""
