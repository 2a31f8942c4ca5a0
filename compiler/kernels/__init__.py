"""The second waist: tile programs, their checker, and the builder that writes them."""
