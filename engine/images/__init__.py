"""Pure tensor functions on pictures."""
