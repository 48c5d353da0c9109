"""Measures how well the embedded model does what it was trained for; the command is tools/judge_embedded.py."""
