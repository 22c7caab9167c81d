"""When and where: the flow, its tasks, their placement and the command line. Prefect is imported only here."""
