"""The parts of tools/train_embedded_video.py: moving pictures, looks, the pool of latents, training, sheets, figures, export."""
