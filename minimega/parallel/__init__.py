"""Many ranks: groups and messages, and the regions in which a cut model differs from a whole one."""
