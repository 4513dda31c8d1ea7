"""Modal: volumes, GPU jobs, and errors in one clear line."""
