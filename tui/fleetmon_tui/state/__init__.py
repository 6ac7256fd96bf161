"""What the dashboard knows: frames go in, plain values come out. No screen, no clock, no I/O."""
