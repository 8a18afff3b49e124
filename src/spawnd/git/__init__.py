"""Git: mirrors of sources, workspaces for attempts, what they leave, and how it reaches a user's branch."""
