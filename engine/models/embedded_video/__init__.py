"""The embedded video model: data only (a model folder and its card, MODEL.md), read through importlib.resources."""
