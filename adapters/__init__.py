"""Technology behind the ports: one module per technology, named for it.

Nothing here decides policy that the domain can hold. Modules import heavy libraries (torch, transformers,
peft, modal) at their top and are themselves imported only when they are used, by ``entrypoints.bootstrap``.
"""
