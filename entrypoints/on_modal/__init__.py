"""Modal as a place to run: the backend, the worker in its containers, their image and where things lie there."""
