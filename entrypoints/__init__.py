"""Where the layers are wired together and driven: the command line, the Modal app, the composition root."""
