"""Groups of ranks and the messages between them; starting ranks and ending them."""
