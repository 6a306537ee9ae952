from .bars import cohort_sizes as cohort_sizes
from .bars import layers as layers
from .curves import ltv_curves as ltv_curves
from .curves import retention_curves as retention_curves
from .heat import heatmap as heatmap
