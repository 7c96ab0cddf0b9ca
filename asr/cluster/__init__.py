"""Cluster: units of work, spread over the machines of a Ray cluster.

In:  the address of a cluster; how to make a worker; units (`asr.inference.units`).
Out: the outcome of each unit, once.
Start with `engine`.

    connection  a cluster, or Ray on this machine for one command
    actor       what does units in a process of the cluster (internal)
    nodes       the nodes of a cluster: their room, and which of them fail (internal)
    engine      units of work -> outcomes, by actors that load a model once
"""

__all__ = ["connection", "engine"]
