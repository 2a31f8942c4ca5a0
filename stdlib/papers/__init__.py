"""One file a paper: its operators as programs, under the official parameter names. No module imports another."""
