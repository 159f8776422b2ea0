"""The `wafermap` folder."""
