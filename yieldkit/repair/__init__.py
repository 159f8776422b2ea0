"""The `repair` folder."""
