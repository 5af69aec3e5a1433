"""The classic convolutional networks, from scratch, trained and compared."""

__version__ = "0.1.0"
