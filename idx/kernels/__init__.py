"""Pure array maths: no file format, no physical frame, no GUI."""
