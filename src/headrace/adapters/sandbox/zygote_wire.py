"""What crosses between a service and the processes it confines; see `zygote`."""

from __future__ import annotations

import struct

SIZE = struct.Struct(">I")
JOB = struct.Struct(">cQ")
