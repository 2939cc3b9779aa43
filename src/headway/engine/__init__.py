"""The engine process: the loop that plans and runs steps, and the process around it."""
