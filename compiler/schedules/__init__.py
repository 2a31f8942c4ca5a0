"""From a group to a Kernel: streams of keys, tiles, windows, loops."""
