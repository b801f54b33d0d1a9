"""Commands that start a run: on one node, or on each of several."""

from __future__ import annotations

from simulator.scenario.scenario import Scenario

_PORT = 29500
_FIRST, _RANK = "$MASTER_ADDR", "$NODE_RANK"


def nodes_of(scenario: Scenario) -> tuple[int, int]:
    """Nodes of a run, and devices of each, which are as many on every node."""
    per_node = min(scenario.devices, scenario.system.devices_per_node)
    while scenario.devices % per_node:
        per_node -= 1
    return scenario.devices // per_node, per_node


def rendezvous(scenario: Scenario) -> str:
    """Options of torchrun: how many processes, and where those of several nodes meet."""
    nodes, per_node = nodes_of(scenario)
    if nodes == 1:
        return f"--standalone --nproc_per_node={per_node}"
    meets = f"--rdzv_id=capsim --rdzv_backend=c10d --rdzv_endpoint={_FIRST}:{_PORT}"
    return f"--nnodes={nodes} --nproc_per_node={per_node} {meets}"


def torchrun(scenario: Scenario, program: str) -> str:
    """A command of torchrun."""
    return f"torchrun {rendezvous(scenario)} {program}"


def environment(scenario: Scenario, nodes: str = "", first: str = "MASTER_ADDR", port: str = "") -> str:
    """Variables before a command that tell a node of several which it is; empty of one node.

    Parameters
    ----------
    scenario
        The completed scenario.
    nodes
        The variable of the number of nodes, where there is one.
    first
        That of the first node's name.
    port
        That of its port, where there is one.
    """
    number = nodes_of(scenario)[0]
    if number == 1:
        return ""
    said = {nodes: str(number), "NODE_RANK": _RANK, first: _FIRST, port: str(_PORT)}
    return "".join(f"{name}={value} " for name, value in said.items() if name)


def of_accelerate(scenario: Scenario) -> str:
    """Options of accelerate that tell a node of several which it is; empty of one node."""
    several = nodes_of(scenario)[0] > 1
    return f"--machine_rank {_RANK} --main_process_ip {_FIRST} --main_process_port {_PORT} " if several else ""


def of_deepspeed(scenario: Scenario) -> str:
    """Options of DeepSpeed's launcher, which starts processes on the nodes of a file."""
    nodes, per_node = nodes_of(scenario)
    return f"--hostfile hostfile --num_nodes {nodes} --num_gpus {per_node}" if nodes > 1 else f"--num_gpus {per_node}"


def where_to_start(scenario: Scenario, command: str) -> str:
    """On which nodes a command is given, and what its variables stand for; empty of one node.

    Parameters
    ----------
    scenario
        The completed scenario.
    command
        What starts the run.
    """
    nodes, per_node = nodes_of(scenario)
    if nodes == 1:
        return ""
    if "--hostfile" in command:
        return f"on the first of {nodes} nodes (hostfile: a line for each, such as node-1 slots={per_node})"
    names = ["MASTER_ADDR: the first one's name"] if _FIRST in command else []
    names += [f"NODE_RANK: 0 to {nodes - 1}"] if _RANK in command else []
    told = "; ".join(names)
    return f"on each of {nodes} nodes{told and f' ({told})'}"
