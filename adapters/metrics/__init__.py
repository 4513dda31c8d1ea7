"""Training curves and figures for people to look at."""
