"""Where the sound of one's own videos is: maps of whole videos, and the pictures of them."""
