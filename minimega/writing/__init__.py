"""What a model writes, as text: one text as it comes, and the answers to many prompts."""
