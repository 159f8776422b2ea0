"""The `faults` folder."""
