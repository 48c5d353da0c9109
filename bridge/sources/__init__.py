"""Devices that give frames besides NDI: test pattern, clips and pictures, camera, nothing. None imports torch."""
