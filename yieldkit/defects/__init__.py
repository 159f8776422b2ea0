"""The `defects` folder."""
