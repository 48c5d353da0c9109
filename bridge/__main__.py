"""Where `phosphene` and `python -m bridge` begin. It holds no function: a spawned child could not find one in here."""

from bridge.cli import start

if __name__ == "__main__":
    start()
