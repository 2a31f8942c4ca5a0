"""Programs from programs of the same meaning, and what can be proved of them on the way."""
