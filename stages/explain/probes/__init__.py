"""What hiding a part of the image costs the class."""
