"""The `report` folder."""
