"""How a movie is cut into blocks, who works on them, and how a block is compared with its source."""
