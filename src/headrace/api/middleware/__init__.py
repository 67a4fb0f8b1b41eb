"""What wraps every request, whichever dialect it is in."""
