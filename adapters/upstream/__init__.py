"""Answers from a server that runs elsewhere and holds the LoRA adapters: vLLM, SGLang, llama.cpp's and their like."""
