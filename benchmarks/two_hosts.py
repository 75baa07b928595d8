"""What crosses the network when two hosts train: bytes on the link for each step, against those of the weights.

Two network namespaces stand for the hosts, with a virtual cable between them; each runs one process of plan 1x1x2. The
same is done with the stream's ids ten times as far apart, so that there are ten times as many nodes; most of these have
no events, which makes negatives drawn from them easy to tell. Needs Linux, root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.harness.benchmark import ROOT, Benchmark, Result, Run, find_stream
from pyg_mspipe import TrainConfig, Trainer, load_stream, synthetic
from pyg_mspipe.distributed import EmulatedExecutor

ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 29500
TIMEOUT = 900


@dataclass(frozen=True)
class Settings:
    """Of this benchmark: sweeps of the shorter and of the longer run, and by what the number of nodes is multiplied."""

    stream: str = "collegemsg"
    batch_size: int = 200
    sweeps: tuple[int, int] = (1, 3)
    times_nodes: tuple[int, ...] = (1, 10)


@dataclass(frozen=True)
class Host:
    """A network namespace with one end of the cable."""

    namespace: str
    interface: str
    address: str

    def sent(self) -> int:
        """Returns how many bytes have left it by the cable."""
        counter = f"/sys/class/net/{self.interface}/statistics/tx_bytes"
        return int(_ip("netns", "exec", self.namespace, "cat", counter))


@dataclass(frozen=True)
class Traffic:
    """What was counted in one run.

    Attributes:
        steps: That were trained.
        sent: Bytes by each host, from the first packet of the run to the last.
        ap: Best validation AP.
    """

    steps: int
    sent: tuple[int, int]
    ap: float


def measure(settings: Settings, run: Run) -> Result:
    """Counts for each number of nodes."""
    source = find_stream(settings.stream)
    streams = []
    with tempfile.TemporaryDirectory() as folder, _hosts() as hosts:
        for times in settings.times_nodes:
            path = Path(folder) / f"nodes-{times}.npz"
            num_nodes = _write_stream(source, times, path)
            streams.append(_measure(hosts, path, num_nodes, settings))
            run.console.print(streams[-1])
    run.console.print(_table(streams))
    return {
        "workload": {
            "stream": source.stem if source else "synthetic",
            "plan": "1x1x2",
            "hosts": "two network namespaces, a virtual Ethernet cable between them, one process of one thread each",
        },
        "method": "bytes sent per step: what the longer run sends more than the shorter one, over its further steps; "
        "expected: 2 (W - 1) / W of the gradients' bytes, W = 2",
        "streams": streams,
    }


def _measure(hosts: tuple[Host, Host], stream: Path, num_nodes: int, settings: Settings) -> dict[str, object]:
    runs = []
    for sweeps in settings.sweeps:
        out = stream.with_suffix(f".{sweeps}")
        runs.append(_train(hosts, stream, out, sweeps, settings.batch_size))
    shorter, longer = runs
    steps = longer.steps - shorter.steps
    per_step = [(more - less) / steps for less, more in zip(shorter.sent, longer.sent, strict=True)]
    config = TrainConfig(
        batch_size=settings.batch_size, parallel="1x1x2", epochs=2 * settings.sweeps[0], eval_negatives=1
    )
    data = load_stream(stream)
    weights = sum(x.numel() * x.element_size() for x in Trainer(data, _single(config)).objective.parameters())
    folder = stream.with_suffix(".emulated")
    Trainer(data, config, folder, executor=EmulatedExecutor()).fit()
    differences = [
        abs(a - b) for a, b in zip(_losses(folder), _losses(stream.with_suffix(f".{settings.sweeps[0]}")), strict=True)
    ]
    return {
        "nodes": num_nodes,
        "node_memory_bytes": num_nodes * config.memory_dim * 4,
        "gradient_bytes": weights,
        "expected_bytes_per_step": weights,
        "sent_bytes_per_step": [round(each) for each in per_step],
        "over_expected": [round(each / weights - 1, 4) for each in per_step],
        "largest_difference_of_a_loss_to_the_emulator": max(differences),
        "runs": [asdict(run) for run in runs],
    }


def _single(config: TrainConfig) -> TrainConfig:
    return TrainConfig(**asdict(config) | {"parallel": "1x1x1"})


def _train(hosts: tuple[Host, Host], stream: Path, out: Path, sweeps: int, batch_size: int) -> Traffic:
    """Trains with one process on each host, and returns what they have sent."""
    before = [host.sent() for host in hosts]
    processes = []
    for rank, host in enumerate(hosts):
        command = ["ip", "netns", "exec", host.namespace, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1"]
        command += [f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}"]
        command += ["-m", "pyg_mspipe", "train", str(stream), "--parallel=1x1x2", f"--epochs={2 * sweeps}"]
        command += [f"--batch-size={batch_size}", "--eval-negatives=1", "--no-tensorboard", f"--out={out}"]
        environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": host.interface, "PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen(command, env=os.environ | environment))
    try:
        codes = [process.wait(TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.terminate()
    if any(codes):
        raise RuntimeError(f"training has failed: exit codes {codes}")
    sent = tuple(host.sent() - start for host, start in zip(hosts, before, strict=True))
    epochs = [line for line in _log(out) if line["kind"] == "epoch"]
    return Traffic(len(_losses(out)), (sent[0], sent[1]), max(line["ap"] for line in epochs))


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _losses(run: Path) -> list[float]:
    return [line["loss"] for line in _log(run) if line["kind"] == "batch"]


def _write_stream(source: Path | None, times: int, path: Path) -> int:
    """Writes a stream whose node ids lie ``times`` as far apart, and returns its number of nodes."""
    data = load_stream(source) if source else synthetic(num_events=20_000)
    arrays = {name: data[name].numpy() for name in ("src", "dst", "t", "msg")}
    num_nodes = times * (int(max(arrays["src"].max(), arrays["dst"].max())) + 1)
    # The last id, which says how many there are, is one of them.
    for name in ("src", "dst"):
        arrays[name] = arrays[name] * times + times - 1
    np.savez(path, **arrays)
    return num_nodes


@contextmanager
def _hosts() -> Iterator[tuple[Host, Host]]:
    """Gives two hosts with a cable between them, for the time being."""
    names = [f"mspipe{os.getpid()}{letter}" for letter in "ab"]
    interfaces = [f"ms{os.getpid()}{letter}" for letter in "ab"]
    hosts = [Host(*each) for each in zip(names, interfaces, ADDRESSES, strict=True)]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", interfaces[0], "type", "veth", "peer", "name", interfaces[1])
        for host in hosts:
            _ip("link", "set", host.interface, "netns", host.namespace)
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", host.interface)
            for interface in (host.interface, "lo"):
                _ip("-n", host.namespace, "link", "set", interface, "up")
        yield hosts[0], hosts[1]
    finally:
        for name in names:
            # The cable goes with its ends.
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def why_not() -> str | None:
    """Returns why there can be no network namespaces here, if so."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "network namespaces need Linux and the ip command of iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root; run it with sudo"
    name = f"mspipe{os.getpid()}try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return tried.stderr.strip() if tried.returncode else None


def _ip(*args: str) -> str:
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=True).stdout


def _table(streams: list[dict[str, object]]) -> Table:
    table = Table("nodes", title="Bytes that cross the network for each step")
    for heading in ("node memory", "gradients", "host 0 sends", "host 1 sends"):
        table.add_column(heading, justify="right")
    for each in streams:
        sent = each["sent_bytes_per_step"]
        assert isinstance(sent, list)
        numbers = (each["nodes"], each["node_memory_bytes"], each["gradient_bytes"], *sent)
        table.add_row(*(f"{number:,}" for number in numbers))
    return table


BENCHMARK = Benchmark(
    "two_hosts",
    "bytes that cross the network when two hosts train",
    2,
    measure,
    Settings(),
    quick=Settings(stream="synthetic", sweeps=(1, 2), times_nodes=(1,)),
    why_not=why_not,
)
