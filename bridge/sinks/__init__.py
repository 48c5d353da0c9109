"""Devices that take frames besides NDI: the recorder, a folder of pictures, nothing. None imports torch."""
