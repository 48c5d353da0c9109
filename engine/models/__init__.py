"""Models: where they are, how they load, one calling contract for all of them."""
