"""The `wafer` folder."""
