"""What the software does: one use case per module, each depending only on ports.

A use case is a frozen class whose fields are its ports, with one ``__call__(request) -> report``. It
returns its report and raises :mod:`domain.errors`; it never prints. Imports the domain, the standard
library and attrs only (import-linter holds this).
"""
