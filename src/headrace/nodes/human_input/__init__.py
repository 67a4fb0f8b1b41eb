"""human-input: a run waits until a person has filled in a form."""
