"""The processes of one run and the axes that they share."""
