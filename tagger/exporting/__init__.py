"""Our releases in the file layouts that other programs read."""
