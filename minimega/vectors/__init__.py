"""Word vectors: files of them, training them, comparing words, a model that starts from them."""
