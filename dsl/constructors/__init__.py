"""The checked constructors of forms, which both spellings go through."""
