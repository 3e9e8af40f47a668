"""The verbs that every pipeline script of this folder has: compile, run, submit."""
