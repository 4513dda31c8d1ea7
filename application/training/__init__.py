"""Training a router, here or elsewhere, and growing it by an adapter."""
