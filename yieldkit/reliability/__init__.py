"""The `reliability` folder."""
