"""Routing data sets and source data sets in files, and how their texts look side by side."""
