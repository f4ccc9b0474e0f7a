"""The distance of two points on Earth, by the haversine formula."""

from math import asin, radians, sin, sqrt

import hotloop

EARTH_KM = 6371.0088  # mean radius, as the IUGG defines it


@hotloop.workload(
    columns={
        "from_latitude": hotloop.Float(-90.0, 90.0, unit="°"),
        "from_longitude": hotloop.Float(-180.0, 180.0, unit="°"),
        "to_latitude": hotloop.Float(-90.0, 90.0, unit="°"),
        "to_longitude": hotloop.Float(-180.0, 180.0, unit="°"),
    },
    outputs={"distance": hotloop.Float(0.0, unit="km")},
)
def haversine(
    from_latitude: float, from_longitude: float, to_latitude: float, to_longitude: float
) -> float:
    """Great-circle distance of two points. A sphere is up to 0.6 % off the real Earth."""
    north = sin(radians(to_latitude - from_latitude) / 2.0)
    east = sin(radians(to_longitude - from_longitude) / 2.0)
    middle = sin(radians(to_latitude + from_latitude) / 2.0)
    # The factor is the product of the two cosines of the formula, by one sine instead. Near a pole
    # rounding can make the sum negative; it is never above 1.
    square = north * north + (1.0 - north * north - middle * middle) * east * east
    return 2.0 * EARTH_KM * asin(sqrt(max(square, 0.0)))
