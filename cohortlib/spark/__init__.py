"""The tables of Termina and Adapty from Spark frames: partitioned by user and computed on the workers.

Nothing here imports pyspark: a frame carries its session, also with Spark Connect.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
