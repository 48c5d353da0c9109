"""NDI in and out: finder, receiver, sender. Importing this loads no NDI library; starting a device does."""
