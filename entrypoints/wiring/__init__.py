"""The parts of the composition root, one per area; :class:`entrypoints.bootstrap.Application` is all of them."""
