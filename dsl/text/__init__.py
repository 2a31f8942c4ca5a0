"""Reading a text: tokens, the grammar, the syntax tree and its scopes."""
