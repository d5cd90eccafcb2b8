"""From one text to another: an encoder, a decoder with cross-attention, beam search."""
