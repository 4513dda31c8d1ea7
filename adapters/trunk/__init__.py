"""The part of a base model that a router reads, for ONNX Runtime: routing without torch and transformers."""
