"""What commands and containers report, as text for people and as JSON for programs.

Each module is one report: ``as_text(report, …)`` returns lines without a newline at the end, ``as_values(report, …)``
plain values for JSON. None of them prints; :mod:`entrypoints.reports.printing` does.
"""
