"""Live parameters: the table, their values, presets. Standard library only."""
