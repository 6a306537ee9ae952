"""Two tables side by side, the computed one and the vendor's: which cells agree, which differ, and where."""
