"""The Python spelling: values that are traced."""
