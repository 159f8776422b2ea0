"""The `fabric` folder."""
