"""Images and masks of objects: where they lie, how they are decoded, and what is wrong with them."""
