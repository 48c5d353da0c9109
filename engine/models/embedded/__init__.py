"""The embedded model: data only (a diffusers folder and its card, MODEL.md), read through importlib.resources."""
