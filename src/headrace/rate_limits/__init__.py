"""Rate limits: plans of how many requests and runs a workspace, an app and a key may have.

The plans of a call's workspace, app and key all apply, of those that have one; so the strictest limit decides. Counts
are in the database, and apply to all processes that share it.
"""

from headrace.rate_limits.limiter import CURRENT_CALL, AppliedPlan, Call, Limiter, LimitReached, LimitState, caller
from headrace.rate_limits.plans import LARGEST_FILE, Plan, PlanFile, Plans, load_plans

__all__ = [
    "CURRENT_CALL",
    "LARGEST_FILE",
    "AppliedPlan",
    "Call",
    "LimitReached",
    "LimitState",
    "Limiter",
    "Plan",
    "PlanFile",
    "Plans",
    "caller",
    "load_plans",
]
