"""Child processes: started with an environment from nothing, bounded in output, ended as a group."""
