"""Sending routing data sets to remote volumes, listing what is there, and fetching it, verified."""
