"""How a database comes to the newest schema. Alembic finds the steps in `versions`."""
