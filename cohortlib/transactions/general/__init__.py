"""The general table: segments, clocks of ages, readings of retention, further amounts, intervals, users of a cell.

``question`` checks the settings; ``rows`` reads rows into parts with the codes of segments; ``cells`` adds users up;
``table`` writes the result.
"""
