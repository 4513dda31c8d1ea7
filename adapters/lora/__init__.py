"""LoRA adapters: checking them, answering with them, fine-tuning small ones."""
