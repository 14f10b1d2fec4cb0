"""What all blocks share at run time: server and hot lane, configuration intake, telemetry, problem details, lifecycle.

The runtime knows no block by name; it drives whatever `kinds.registry` lists through the seam in `block.py`.
"""
