"""What every artifact of a term-document matrix holds in its version folder, byte for byte."""
