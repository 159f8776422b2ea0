"""The `diagnosis` folder."""
