"""The trained router: heads, calibration, scoring, and the file that holds it."""
