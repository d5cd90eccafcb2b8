"""Names from other frameworks: taken, or answered with what to type here."""
