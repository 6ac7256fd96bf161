"""The dumb part: puts lines on the terminal and hands keys on. Needs Textual."""
