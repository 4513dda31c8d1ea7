"""The HTTP endpoint that picks the adapter: OpenAI's interface over routing and an engine of any kind."""
