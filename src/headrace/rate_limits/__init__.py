"""Limits: plans of what a workspace, an app and a key may ask for, and the taking of it.

A call must pass the plan of its workspace, of its app and of its key, of those that have one. So the tightest holds.
What is taken is kept in the database, and holds for every process that shares it.
"""

from headrace.rate_limits.limiter import CALL, Applied, Call, Limiter, LimitReached, Met, caller
from headrace.rate_limits.plans import LARGEST_FILE, Plan, PlanFile, Plans, load_plans

__all__ = [
    "CALL",
    "LARGEST_FILE",
    "Applied",
    "Call",
    "LimitReached",
    "Limiter",
    "Met",
    "Plan",
    "PlanFile",
    "Plans",
    "caller",
    "load_plans",
]
