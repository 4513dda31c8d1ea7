"""Answers as JSON: in files that can be continued, on the wire and on the screen."""
