"""Who the customers are: classes by value, by behaviour, by loyalty."""

from crm_analysis.segments.concentration import (
    AbcClasses,
    abc_classes,
    value_concentration,
)

__all__ = ["AbcClasses", "abc_classes", "value_concentration"]
