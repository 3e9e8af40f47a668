"""The robot of the family `navigation`: its body, its camera, and how it counts as having arrived.

It is a disc that carries its camera over its centre, looking level. With x across the picture and y down it, a point
``forward`` metres ahead, ``right`` metres beside and ``up`` metres over the floor is seen at
``x = (1/2 + FOCAL * right / forward) * size``, ``y = (HORIZON + FOCAL * (CAMERA_HEIGHT - up) / forward) * size``.
"""

ROBOT_RADIUS = 0.25
"""Radius in metres: the robot's centre keeps at least that far from walls and furniture."""
STOP_DISTANCE = 0.60
"""The robot ends with its centre so many metres from the near side of its target."""
CAMERA_HEIGHT = 1.1
"""Metres from the floor to the camera."""
FOCAL = 0.5
"""Focal length as a fraction of the picture's side: the field of view is 90 degrees."""
HORIZON = 0.4
"""Where the horizon is, as a fraction of the picture's height from above: the lens is shifted down to see the floor."""
