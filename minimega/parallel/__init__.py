"""A model cut over ranks: tensor, sequence, context, data, expert and pipeline parallelism, and ZeRO."""
