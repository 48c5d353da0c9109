"""Data only: the presets that ship with Phosphene, one YAML file each."""
