"""What stands on the screen, as lines of text with roles: made from the state alone."""
