"""What a shape costs in memory and messages: by the formulas of the papers, and measured."""
